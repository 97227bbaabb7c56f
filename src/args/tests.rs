use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use shunt_core::engine::NodePortAddresses;
use shunt_plugins::{LocalPods, PacketSettings};

use super::{Args, value};

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn kube_proxys_spellings_are_understood() {
    let check = |line: &str, expected: fn(&Args) -> bool| {
        let args = Args::try_parse_from(line.split_whitespace());
        let args = args.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(expected(&args), "{line}: {args:?}");
    };
    check("shunt --hostname-override=worker-1", |args| {
        args.agent.node_name.as_deref() == Some("worker-1")
    });
    check("shunt --v=4", |args| args.log.verbosity == 4);
    check("shunt -v=2", |args| args.log.verbosity == 2);
    check("shunt -v 2", |args| args.log.verbosity == 2);
    check("shunt --masquerade-all", |args| args.agent.packets.masquerade_all);
    check("shunt --masquerade-all=false", |args| !args.agent.packets.masquerade_all);
    check("shunt --iptables-min-sync-period=1m30s", |args| {
        args.agent.iptables_min_sync_period == Duration::from_secs(90)
    });
    check("shunt --cluster-cidr=10.244.0.0/16,fd00::/48", |args| {
        args.agent.packets.cluster_cidr.0.len() == 2
            && args.agent.packets.given() == ["--cluster-cidr"]
    });
    check("shunt --cluster-cidr=", |args| args.agent.packets.cluster_cidr.0.is_empty());
    check("shunt --detect-local-mode=NodeCIDR", |args| !args.agent.packets.given().is_empty());
    check("shunt --conntrack-tcp-be-liberal --conntrack-udp-timeout=30s", |args| {
        let sysctls = args.agent.packets.sysctls();
        sysctls.tcp_be_liberal && sysctls.udp == Duration::from_secs(30)
    });
    check("shunt", |args| {
        let sysctls = args.agent.packets.sysctls();
        (sysctls.max_per_core, sysctls.min) == (32_768, 131_072)
            && sysctls.tcp_established == Duration::from_secs(86_400)
            && sysctls.tcp_close_wait == Duration::from_secs(3_600)
            && !sysctls.tcp_be_liberal
            && sysctls.udp.is_zero()
            && sysctls.udp_stream.is_zero()
    });
    check("shunt --manifests a --manifests b", |args| args.agent.manifests.len() == 2);
    check("shunt get services -o json --pin-path /x", |args| {
        args.place.pin_path.as_os_str() == "/x"
    });
}

/// The settings of the packet path that a command line makes, and what is said about them.
fn packets(line: &str) -> Result<(PacketSettings, Vec<String>), String> {
    let args = Args::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
    args.agent.packets.settings().map_err(|error| error.to_string())
}

#[test]
fn local_pods_are_recognised_as_asked_for() {
    let check = |line: &str, expected: LocalPods, said: &[&str]| {
        let (settings, warnings) = packets(line).unwrap();
        assert_eq!(settings.local_pods, expected, "{line}");
        assert_eq!(warnings.len(), said.len(), "{line}: {warnings:?}");
        for (warning, said) in warnings.iter().zip(said) {
            assert!(warning.contains(said), "{line}: {said:?} is not in {warning}");
        }
    };
    let cidrs = |texts: &[&str]| {
        LocalPods::ClusterCidrs(texts.iter().map(|text| text.parse().unwrap()).collect())
    };
    check("shunt", LocalPods::Unknown, &["needs --cluster-cidr"]);
    check("shunt --cluster-cidr=10.244.1.7/16", cidrs(&["10.244.0.0/16"]), &["no IPv6 CIDR"]);
    check(
        "shunt --cluster-cidr=10.244.0.0/16,fd00::/48",
        cidrs(&["10.244.0.0/16", "fd00::/48"]),
        &[],
    );
    check("shunt --detect-local-mode=NodeCIDR", LocalPods::NodeCidrs, &[]);
    let mode = "shunt --detect-local-mode=BridgeInterface";
    check(mode, LocalPods::Unknown, &["needs --pod-bridge-interface"]);
    let bridge = format!("{mode} --pod-bridge-interface=cni0");
    check(&bridge, LocalPods::Bridge("cni0".into()), &[]);
    let mode = "shunt --detect-local-mode=InterfaceNamePrefix";
    check(mode, LocalPods::Unknown, &["needs --pod-interface-name-prefix"]);
    let prefix = format!("{mode} --pod-interface-name-prefix=veth");
    check(&prefix, LocalPods::InterfacePrefix("veth".into()), &[]);
}

#[test]
fn what_is_impossible_names_flag_and_way_out() {
    let check = |line: &str, words: &[&str]| {
        let error = packets(line).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{line}: {word:?} is not in {error}");
        }
    };
    check("shunt --cluster-cidr=10.0.0.0", &["--cluster-cidr", "10.244.0.0/16"]);
    check(
        "shunt --cluster-cidr=10.1.0.0/16,10.0.0.0/8",
        &["--cluster-cidr", "10.0.0.0/8 contains 10.1.0.0/16", "leave out"],
    );
    check("shunt --cluster-cidr=10.0.0.0/8,10.0.0.0/8", &["leave out"]);
    check(
        "shunt --pod-bridge-interface=a-name-that-is-too-long",
        &["--pod-bridge-interface", "15"],
    );
    check("shunt --pod-interface-name-prefix=a/b", &["--pod-interface-name-prefix", "slash"]);
    check("shunt --masquerade-bit=32", &["--masquerade-bit", "0..=31"]);
    check("shunt --detect-local-mode=Guess", &["--detect-local-mode", "ClusterCIDR"]);
}

#[test]
fn durations_are_those_of_go() {
    let check = |text: &str, expected: Option<Duration>| {
        assert_eq!(value::duration(text).ok(), expected, "{text:?}");
    };
    check("0", Some(Duration::ZERO));
    check("0s", Some(Duration::ZERO));
    check("30s", Some(Duration::from_secs(30)));
    check("1m30s", Some(Duration::from_secs(90)));
    check("1.5h", Some(Duration::from_secs(5400)));
    check("100ms", Some(Duration::from_millis(100)));
    check("5", None);
    check("-1s", None);
    check("PT5S", None);
    check("1 hour", None);
    check("", None);
}

#[test]
fn node_port_addresses_are_primary_or_cidrs() {
    let check = |text: &str, expected: Option<usize>| {
        let cidrs = value::node_port_addresses(text).ok().map(|addresses| match addresses {
            NodePortAddresses::Primary => usize::MAX,
            NodePortAddresses::Cidrs(cidrs) => cidrs.len(),
        });
        assert_eq!(cidrs, expected, "{text:?}");
    };
    check("primary", Some(usize::MAX));
    check("", Some(0));
    check("10.0.0.0/8", Some(1));
    check("10.0.0.0/8, fd00::/8", Some(2));
    check("10.0.0.0", None);
}
