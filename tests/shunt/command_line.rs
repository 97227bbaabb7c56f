//! What needs no privilege: help, and mistakes in what was asked for.

use crate::running::{printed, refused, shunt};

#[test]
fn help_is_one_screen_and_names_everything() {
    // `-h` leaves out what hardly anybody sets.
    let help = printed(&shunt(&["-h"]));
    assert!(help.lines().count() <= 60, "{} lines: {help}", help.lines().count());
    let help = printed(&shunt(&["--help"]));
    for word in [
        "get",
        "doctor",
        "cleanup",
        "--source",
        "kube",
        "--kubeconfig",
        "--master",
        "--kube-api-qps",
        "--kube-api-burst",
        "static",
        "--manifests",
        "--node-name",
        "--hostname-override",
        "--mode",
        "--cgroup",
        "--pin-path",
        "--nodeport-addresses",
        "--cluster-cidr",
        "--detect-local-mode",
        "--pod-bridge-interface",
        "--pod-interface-name-prefix",
        "--masquerade-bit",
        "--conntrack-max-per-core",
        "--conntrack-min",
        "--conntrack-tcp-timeout-established",
        "--conntrack-tcp-timeout-close-wait",
        "--conntrack-tcp-be-liberal",
        "--conntrack-udp-timeout",
        "--conntrack-udp-timeout-stream",
        "--masquerade-all",
        "--iptables-min-sync-period",
        "--iptables-sync-period",
        "--bind-address",
        "-v",
        "--logging-format",
        "--table-size",
        "--healthz-bind-address",
        "--healthz-port",
        "--metrics-bind-address",
        "--metrics-port",
        "--bind-address-hard-fail",
        "--stale-after",
        "--version",
    ] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    assert!(!help.contains("probe-process"), "{help}");
}

#[test]
fn version_is_told() {
    let version = printed(&shunt(&["--version"]));
    assert_eq!(version.trim(), concat!("shunt ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn mistakes_get_a_message_that_helps() {
    let check = |args: &[&str], expected: &[&str]| {
        let said = refused(&shunt(args));
        for word in expected {
            assert!(said.contains(word), "{args:?}: {word:?} is not in {said}");
        }
    };
    check(&[], &["kube", "--kubeconfig"]);
    check(&["--source", "consul"], &["consul", "static"]);
    check(&["--source", "static"], &["--manifests"]);
    check(&["--source", "static", "--manifests", "/nonexistent/x"], &["/nonexistent/x"]);
    check(&["--source", "static", "--manifests", "/", "--mode", "ebpf"], &["ebpf", "connect"]);
    check(&["--source", "static", "--node-name", " "], &["--node-name"]);
}

#[test]
fn a_wrong_value_names_flag_and_what_is_allowed() {
    let check = |args: &[&str], expected: &[&str]| {
        let output = shunt(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        for word in expected {
            assert!(said.contains(word), "{args:?}: {word:?} is not in {said}");
        }
    };
    check(&["--iptables-sync-period", "5"], &["--iptables-sync-period", "30s"]);
    check(&["--nodeport-addresses", "here"], &["--nodeport-addresses", "primary"]);
    check(&["--table-size", "endpoints"], &["--table-size", "TABLE=N"]);
    check(&["--cluster-cidr", "10.0.0.0"], &["--cluster-cidr"]);
    check(&["--healthz-bind-address", "localhost"], &["--healthz-bind-address", "[::]:10256"]);
    check(&["get", "pods"], &["pods"]);
}
