//! The flags of what is served over HTTP, spelled as kube-proxy spells them.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use clap::ArgAction;

use super::value::duration;

/// The flags of what is served over HTTP.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct HttpArgs {
    /// Where /healthz and /livez are answered; empty: nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:10256", hide_short_help = true)]
    healthz_bind_address: Address,
    /// The port where --healthz-bind-address has none; 0: /healthz is answered nowhere.
    #[arg(long, value_name = "PORT", default_value_t = 10_256, hide_short_help = true)]
    healthz_port: u16,
    /// Where /metrics, /healthz, /proxyMode and /configz are answered; empty: nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10249", hide_short_help = true)]
    metrics_bind_address: Address,
    /// The port where --metrics-bind-address has none; 0: /metrics is answered nowhere.
    #[arg(long, value_name = "PORT", default_value_t = 10_249, hide_short_help = true)]
    metrics_port: u16,
    /// Whether an address that is taken ends the agent, instead of being tried again every 5 s.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub(crate) bind_address_hard_fail: bool,
    /// Accepted: there are no profiles of Go to serve at /debug/pprof.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_possible_values = true,
        hide = true
    )]
    pub(crate) profiling: bool,
    /// How long the API server may not be seen before /livez names what is stale.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5m",
        value_parser = duration,
        hide_short_help = true
    )]
    pub(crate) stale_after: Duration,
}

impl HttpArgs {
    /// Where health is answered, if anywhere.
    pub(crate) fn healthz(&self) -> Option<SocketAddr> {
        self.healthz_bind_address.with_port(self.healthz_port)
    }

    /// Where metrics are answered, if anywhere.
    pub(crate) fn metrics(&self) -> Option<SocketAddr> {
        self.metrics_bind_address.with_port(self.metrics_port)
    }
}

/// An address with or without a port, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    Nowhere,
    Ip(IpAddr),
    Socket(SocketAddr),
}

impl Address {
    /// kube-proxy's rule: port 0 in the flag of its own means nowhere, and a port in the address
    /// counts more.
    fn with_port(self, port: u16) -> Option<SocketAddr> {
        match self {
            _ if port == 0 => None,
            Self::Nowhere => None,
            Self::Ip(address) => Some(SocketAddr::new(address, port)),
            Self::Socket(address) => Some(address),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Nowhere);
        }
        let socket = text.parse().map(Self::Socket);
        let address = socket.or_else(|_| text.parse().map(Self::Ip)).ok();
        address.ok_or_else(|| {
            format!("{text:?} is neither an address like 0.0.0.0 nor one like [::]:10256")
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::Args;

    #[test]
    fn addresses_are_those_that_kube_proxy_would_listen_at() {
        let check = |line: &str, healthz: &str, metrics: &str| {
            let args = Args::try_parse_from(line.split_whitespace()).unwrap();
            let text = |address: Option<std::net::SocketAddr>| {
                address.map_or_else(String::new, |address| address.to_string())
            };
            assert_eq!(text(args.agent.http.healthz()), healthz, "{line}");
            assert_eq!(text(args.agent.http.metrics()), metrics, "{line}");
        };
        let metrics = "127.0.0.1:10249";
        check("shunt", "0.0.0.0:10256", metrics);
        check("shunt --healthz-bind-address=", "", metrics);
        check("shunt --healthz-port=0 --metrics-port=0", "", "");
        check("shunt --healthz-bind-address=:: --healthz-port=7", "[::]:7", metrics);
        check("shunt --healthz-bind-address=10.0.0.1:9 --healthz-port=7", "10.0.0.1:9", metrics);
        check("shunt --metrics-bind-address=[::1]:9", "0.0.0.0:10256", "[::1]:9");
        let wrong = Args::try_parse_from(["shunt", "--metrics-bind-address=localhost"]);
        let said = wrong.unwrap_err().to_string();
        assert!(said.contains("--metrics-bind-address") && said.contains("[::]:10256"), "{said}");
    }
}
