//! Servers at an address that an operator chose.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use shunt_core::notice::{Notice, Notices};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, time::sleep};
use tracing::{debug, error, info};

use super::connection::{self, Answer};

/// How long to wait before an address that is taken is tried again; as kube-proxy.
const RETRY: Duration = Duration::from_secs(5);

/// A server for operators, and what is said where it cannot listen.
pub(crate) struct Server {
    /// What it is for: `metrics`.
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// The flag that says so.
    pub(crate) flag: &'static str,
    /// The reason of the event where it cannot listen.
    pub(crate) reason: &'static str,
    /// Whether an address that is taken ends the agent.
    pub(crate) hard_fail: bool,
}

impl Server {
    /// Answers for ever. An address that is taken is told once and tried again.
    ///
    /// # Errors
    ///
    /// Fails if the address is taken and that is to end the agent.
    pub(crate) async fn run(self, answer: impl Answer, notices: Notices) -> anyhow::Result<()> {
        let Self { name, address, flag, reason, hard_fail } = self;
        let mut refused = None;
        loop {
            let error = match listen(address) {
                Ok(listener) => {
                    info!("serving {name} at {address}");
                    refused = None;
                    connection::serve(listener, answer.clone()).await;
                    continue;
                }
                Err(error) => error,
            };
            let said = format!("cannot serve {name} at {address}: {error}");
            if hard_fail {
                notices.give(Notice::warn_of_node(reason, "StartKubeProxy", said));
                return Err(error).with_context(|| {
                    format!(
                        "cannot serve {name} at {address}: free the port, give another {flag}, or \
                         leave out --bind-address-hard-fail"
                    )
                });
            }
            if refused.as_ref() == Some(&said) {
                debug!("{said}");
            } else {
                error!(
                    "{said}; it is tried again every {} s, {flag} names another",
                    RETRY.as_secs()
                );
                notices.give(Notice::warn_of_node(reason, "StartKubeProxy", said.clone()));
                refused = Some(said);
            }
            sleep(RETRY).await;
        }
    }
}

/// Listens at an address. An unspecified IPv4 one is every address of both families, as for
/// kube-proxy: load balancers ask an IPv6 node by IPv6, whatever the default says.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let every = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
    if address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return listen_at(address);
    }
    match listen_at(every) {
        // A kernel without IPv6, or an interface without it.
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => listen_at(address),
        result => result,
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        let is_every = address.ip().is_unspecified();
        socket.set_only_v6(!is_every)?;
    }
    // Connections of an earlier run that are still closing are no reason to wait.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}
