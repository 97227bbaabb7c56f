//! What is in force, as a KubeProxyConfiguration: the answer at `/configz`.

use std::time::Duration;

use serde_json::{Value, json};
use shunt_core::engine::NodePortAddresses;

use super::{AgentArgs, packets::DetectLocal};

impl AgentArgs {
    /// What is in force, as a KubeProxyConfiguration; fields of which we know nothing are left out.
    pub(crate) fn configz(&self, node_name: &str) -> Value {
        let (packets, api) = (&self.packets, &self.api);
        let address = |address: Option<std::net::SocketAddr>| {
            address.map_or_else(String::new, |address| address.to_string())
        };
        let path = |path: &Option<std::path::PathBuf>| {
            path.as_ref().map_or_else(String::new, |path| path.display().to_string())
        };
        let cidrs: Vec<String> = packets.cluster_cidr.0.iter().map(ToString::to_string).collect();
        let node_ports = match &self.nodeport_addresses {
            NodePortAddresses::Primary => vec!["primary".to_owned()],
            NodePortAddresses::Cidrs(cidrs) => cidrs.iter().map(ToString::to_string).collect(),
        };
        let configuration = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": node_name,
            "bindAddress": self.bind_address,
            "healthzBindAddress": address(self.http.healthz()),
            "metricsBindAddress": address(self.http.metrics()),
            "bindAddressHardFail": self.http.bind_address_hard_fail,
            "enableProfiling": self.http.profiling,
            "clientConnection": {
                "kubeconfig": path(&api.kubeconfig),
                "contentType": api.kube_api_content_type.as_deref().unwrap_or_default(),
                "qps": api.kube_api_qps,
                "burst": api.kube_api_burst,
            },
            "nftables": {
                "masqueradeAll": packets.masquerade_all,
                "masqueradeBit": packets.masquerade_bit,
                "syncPeriod": go_duration(self.iptables_sync_period),
                "minSyncPeriod": go_duration(self.iptables_min_sync_period),
            },
            "detectLocalMode": match packets.detect_local_mode {
                DetectLocal::ClusterCidr => "ClusterCIDR",
                DetectLocal::NodeCidr => "NodeCIDR",
                DetectLocal::BridgeInterface => "BridgeInterface",
                DetectLocal::InterfaceNamePrefix => "InterfaceNamePrefix",
            },
            "detectLocal": {
                "bridgeInterface": packets.pod_bridge_interface,
                "interfaceNamePrefix": packets.pod_interface_name_prefix,
            },
            "clusterCIDR": cidrs.join(","),
            "nodePortAddresses": node_ports,
            "conntrack": {
                "maxPerCore": packets.conntrack_max_per_core,
                "min": packets.conntrack_min,
                "tcpEstablishedTimeout": go_duration(packets.conntrack_tcp_timeout_established),
                "tcpCloseWaitTimeout": go_duration(packets.conntrack_tcp_timeout_close_wait),
                "tcpBeLiberal": packets.conntrack_tcp_be_liberal,
                "udpTimeout": go_duration(packets.conntrack_udp_timeout),
                "udpStreamTimeout": go_duration(packets.conntrack_udp_timeout_stream),
            },
        });
        json!({ "kubeproxy.config.k8s.io": configuration })
    }
}

/// A duration as Go prints it: `24h0m0s`, `1.5s`, `100ms`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = (duration - Duration::from_secs(seconds / 60 * 60)).as_secs_f64();
    match (hours, minutes) {
        _ if seconds == 0 && !duration.is_zero() => format!("{}ms", rest * 1000.0),
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;

    #[test]
    fn what_is_in_force_is_shown_as_kube_proxy_shows_it() {
        let line = "shunt --cluster-cidr=10.244.0.0/16,fd00::/48 --metrics-bind-address= \
                    --healthz-port=7 --healthz-bind-address=:: --iptables-sync-period=1m30s";
        let args = Args::try_parse_from(line.split_whitespace()).unwrap();
        let shown = args.agent.configz("node-1");
        let shown = &shown["kubeproxy.config.k8s.io"];
        for (pointer, expected) in [
            ("/kind", json!("KubeProxyConfiguration")),
            ("/mode", json!("nftables")),
            ("/hostnameOverride", json!("node-1")),
            ("/healthzBindAddress", json!("[::]:7")),
            ("/metricsBindAddress", json!("")),
            ("/clusterCIDR", json!("10.244.0.0/16,fd00::/48")),
            ("/nftables/syncPeriod", json!("1m30s")),
            ("/nftables/masqueradeBit", json!(14)),
            ("/conntrack/tcpEstablishedTimeout", json!("24h0m0s")),
            ("/conntrack/udpTimeout", json!("0s")),
            ("/nodePortAddresses", json!(["primary"])),
            ("/clientConnection/qps", json!(5.0)),
        ] {
            assert_eq!(shown.pointer(pointer), Some(&expected), "{pointer} in {shown}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let check = |millis, expected: &str| {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        };
        check(0, "0s");
        check(100, "100ms");
        check(1_500, "1.5s");
        check(30_000, "30s");
        check(60_000, "1m0s");
        check(5_400_000, "1h30m0s");
    }
}
