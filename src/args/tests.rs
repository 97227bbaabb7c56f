use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use shunt_core::engine::NodePortAddresses;

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
    check("shunt --masquerade-all", |args| args.agent.masquerade_all);
    check("shunt --masquerade-all=false", |args| !args.agent.masquerade_all);
    check("shunt --iptables-min-sync-period=1m30s", |args| {
        args.agent.iptables_min_sync_period == Duration::from_secs(90)
    });
    check("shunt --cluster-cidr=10.244.0.0/16,fd00::/48", |args| {
        args.agent.cluster_cidr.len() == 2 && args.agent.without_effect() == ["--cluster-cidr"]
    });
    check("shunt --detect-local-mode=NodeCIDR", |args| !args.agent.without_effect().is_empty());
    check("shunt --manifests a --manifests b", |args| args.agent.manifests.len() == 2);
    check("shunt get services -o json --pin-path /x", |args| {
        args.place.pin_path.as_os_str() == "/x"
    });
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
