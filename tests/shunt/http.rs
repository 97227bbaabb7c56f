//! What an operator is told over HTTP and in events.

use std::{collections::BTreeSet, net::TcpListener, process::Command};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shunt_harness::{
    apiserver::{Fault, FaultyServer},
    until,
    world::World,
};

use crate::running::{
    Agent, PATIENCE, ask, ask_until, logs, manifests, on, put, reaches, refused, serve, world,
};

const HEALTH: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";

/// Where a second agent on the same node answers.
const SECOND: [&str; 2] = ["127.0.0.1:10266", "127.0.0.1:10259"];

fn shunt() -> Command {
    Command::new(env!("CARGO_BIN_EXE_shunt"))
}

/// Writes the Node: one that is missing should get no new connections.
fn put_own_node(world: &World) {
    let name = World::OWN_NODE;
    put(
        world,
        "node.yaml",
        &format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus: {{}}\n"),
    );
}

fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The value of a series, by its beginning: name and labels.
fn value(text: &str, series: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(series))?;
    rest.trim().parse().ok()
}

/// Waits until a series has a value as wished.
fn metric(world: &World, at: &str, series: &str, wished: impl Fn(f64) -> bool) {
    ask_until(world, at, "/metrics", |_, text| value(text, series).is_some_and(&wished));
}

/// A server of the Kubernetes API on the world's node, and what keeps it going.
struct Cluster {
    server: FaultyServer,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    fn start(world: &World) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = world.host().run(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let server = runtime.block_on(async { FaultyServer::start_at(listener).unwrap() });
        Self { server, runtime }
    }

    fn put_node(&self, changes: &Value) {
        let mut node = json!({
            "metadata": { "name": World::OWN_NODE },
            "spec": {},
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
        });
        for part in ["metadata", "spec"] {
            for (name, value) in changes[part].as_object().into_iter().flatten() {
                node[part][name] = value.clone();
            }
        }
        self.server.put("nodes", node);
    }

    fn put_service(&self, name: &str, address: &str, spec: &Value) {
        let mut service = json!({
            "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-of-{name}") },
            "spec": {
                "clusterIP": address, "clusterIPs": [address],
                "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
            },
        });
        for (name, value) in spec.as_object().into_iter().flatten() {
            service["spec"][name] = value.clone();
        }
        self.server.put("services", service);
    }

    fn put_slice(&self, address: &str, triggered: Option<&str>) {
        let key = "endpoints.kubernetes.io/last-change-trigger-time";
        let annotations = triggered.map(|time| json!({ key: time }));
        self.server.put(
            "endpointslices",
            json!({
                "metadata": {
                    "name": "web-1", "namespace": "shop", "annotations": annotations,
                    "labels": { "kubernetes.io/service-name": "web" },
                },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": [address], "nodeName": "elsewhere" }],
                "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            }),
        );
    }

    /// Starts an agent of this cluster, with the packet path alone.
    fn agent(&self, world: &World, flags: &[&str]) -> Agent {
        let mut command = shunt();
        command.args(["--mode", "nftables", "--master", &self.server.url()]);
        command.args(["--kube-api-qps", "1000", "--kube-api-burst", "1000"]);
        Agent::launch(world, command, flags)
    }

    /// Waits for an event, by its reason.
    fn event(&self, world: &World, reason: &str) -> Value {
        let is_it = |event: &Value| event["reason"] == reason;
        let there = |events: &[Value]| events.iter().any(is_it);
        let events = self.runtime.block_on(self.server.until("events", there));
        let events = events.unwrap_or_else(|error| panic!("{error:#}{}", logs(world)));
        events.into_iter().find(is_it).unwrap()
    }
}

#[test]
fn every_metric_of_kube_proxy_is_there_with_its_type_labels_and_buckets() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let _agent = Agent::with(&world, shunt(), &["--mode", "auto"]);
    reaches(&world, &["echo-1"]);
    ask_until(&world, HEALTH, "/livez", |code, _| code == 200);
    metric(&world, METRICS, "shunt_synced", |value| value > 0.5);
    let (_, text) = ask(&world, METRICS, "/metrics").unwrap();
    let list = include_str!("testdata/metrics.txt");
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{line}: {text}");
        let is_histogram = kind == "histogram";
        let labels: BTreeSet<&str> =
            words.next().into_iter().flat_map(|words| words.split(',')).collect();
        let series = if is_histogram { format!("{name}_bucket") } else { name.to_owned() };
        let found: Vec<_> = text.lines().filter_map(|line| labels_of(line, &series)).collect();
        assert!(!found.is_empty(), "{line}: {text}");
        for mut found in found {
            found.remove("le");
            assert_eq!(found, labels, "{line}");
        }
        if let Some(buckets) = words.next() {
            assert_eq!(buckets_of(&text, &series), buckets, "{line}");
        }
    }
    assert_eq!(value(&text, "kubeproxy_proxy_livez_total{code=\"503\"}"), Some(0.0), "{text}");
    let livez = value(&text, "kubeproxy_proxy_livez_total{code=\"200\"}");
    assert!(livez.is_some_and(|count| count >= 1.0), "{text}");
}

/// The labels of a line of the text, if it is of this series.
fn labels_of<'a>(line: &'a str, series: &str) -> Option<BTreeSet<&'a str>> {
    let rest = line.strip_prefix(series)?;
    match rest.strip_prefix('{') {
        Some(rest) => {
            let labels = rest.split_once('}')?.0.split("\",");
            Some(labels.filter_map(|label| Some(label.split_once('=')?.0)).collect())
        }
        None => rest.starts_with(' ').then(BTreeSet::new),
    }
}

/// `count:first:last` of the finite buckets of IPv4.
fn buckets_of(text: &str, series: &str) -> String {
    let prefix = format!("{series}{{ip_family=\"IPv4\",le=\"");
    let bounds = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split('"').next());
    let bounds: Vec<&str> = bounds.filter(|bound| *bound != "+Inf").collect();
    format!("{}:{}:{}", bounds.len(), bounds[0], bounds[bounds.len() - 1])
}

#[test]
fn the_other_paths_answer_as_kube_proxys_do() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let flags = ["--mode", "connect", "--profiling", "--cluster-cidr", "10.244.0.0/16"];
    let _agent = Agent::with(&world, shunt(), &flags);
    ask_until(&world, METRICS, "/healthz", |code, body| code == 200 && body == "ok");
    let asked = |path| ask(&world, METRICS, path).unwrap();
    // Whatever balances: a kube-proxy of this mode is what this one stands in for.
    assert_eq!(asked("/proxyMode"), (200, "nftables".to_owned()));
    let (code, shown) = asked("/configz");
    let shown = body(&shown);
    assert_eq!(code, 200);
    assert_eq!(shown["kubeproxy.config.k8s.io"]["clusterCIDR"], "10.244.0.0/16", "{shown}");
    assert_eq!(asked("/debug/pprof/profile").0, 404);
    let (code, health) = ask(&world, HEALTH, "/metrics").unwrap();
    assert_eq!((code, &*health), (404, "404 page not found\n"));
    // An IPv4 address that means every one means those of the other family too.
    assert_eq!(ask(&world, "[::1]:10256", "/livez").unwrap().0, 200);
}

#[test]
fn without_the_one_that_carries_everything_health_turns_503_until_it_is_back() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    put_own_node(&world);
    // It holds the tables of the packet path, so that the second one cannot apply there.
    let first = Agent::with(&world, shunt(), &["--mode", "nftables"]);
    reaches(&world, &["echo-1"]);
    let [health, metrics] = SECOND;
    let flags = ["--healthz-bind-address", health, "--metrics-bind-address", metrics];
    let mut command = shunt();
    command.args(["--mode", "auto", "--iptables-sync-period", "1s"]);
    let _second = Agent::with(&world, command, &flags);
    for path in ["/healthz", "/livez"] {
        let unhealthy = |code, body: &str| code == 503 && body.contains("\"healthy\":false");
        let answer = body(&ask_until(&world, health, path, unhealthy));
        let said = answer["degraded"].to_string();
        assert!(said.contains("nftables: not started"), "{answer}");
    }
    let unhealthy = "shunt_health{ip_family=\"IPv4\",state=\"unhealthy\"}";
    metric(&world, metrics, unhealthy, |value| value > 0.5);
    assert!(first.end(Signal::SIGTERM).success());
    let answer = body(&ask_until(&world, health, "/healthz", |code, _| code == 200));
    assert_eq!(answer["status"]["IPv4"]["healthy"], true, "{answer}");
    metric(
        &world,
        metrics,
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"}",
        |at| at > 1e9,
    );
}

#[test]
fn losing_connect_time_balancing_is_200_and_degraded() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let first = Agent::start(&world);
    reaches(&world, &["echo-1"]);
    let [health, metrics] = SECOND;
    let flags = ["--healthz-bind-address", health, "--metrics-bind-address", metrics];
    let mut command = shunt();
    command.args(["--mode", "auto", "--iptables-sync-period", "1s"]);
    let second = Agent::with(&world, command, &flags);
    let degraded = |code, body: &str| code == 200 && body.contains("\"degraded\"");
    let answer = body(&ask_until(&world, health, "/livez", degraded));
    assert!(answer["degraded"].to_string().contains("connect: not started"), "{answer}");
    assert_eq!(answer["healthy"], true, "{answer}");
    let state = "shunt_health{ip_family=\"IPv4\",state=\"degraded\"}";
    metric(&world, metrics, state, |value| value > 0.5);
    second.says("IPv4 and IPv6 are degraded: connect in trouble, the rest serves");
    // However long that lasts: it verifies every second, and two seconds are its patience.
    metric(&world, metrics, "shunt_verifies_total{backend=\"nftables\"}", |count| count > 3.5);
    let (code, live) = ask(&world, health, "/livez").unwrap();
    assert!(degraded(code, &live), "{code} {live}");
    assert!(first.end(Signal::SIGTERM).success());
    ask_until(&world, health, "/livez", |code, body| code == 200 && !body.contains("degraded"));
    metric(&world, metrics, state, |value| value < 0.5);
}

#[test]
fn a_port_in_use_is_told_and_tried_again_or_ends_the_agent() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let taken = world.host().run(|| TcpListener::bind(METRICS).unwrap()).unwrap();
    let agent = Agent::with(&world, shunt(), &["--mode", "connect"]);
    agent.says("cannot serve /metrics at 127.0.0.1:10249");
    agent.says("--metrics-bind-address");
    reaches(&world, &["echo-1"]);
    ask_until(&world, HEALTH, "/livez", |code, _| code == 200);

    let folder = manifests(&world);
    let flags =
        ["--source", "static", "--manifests", folder.to_str().unwrap(), "--mode", "connect"];
    let hard = [&flags[..], &["--bind-address-hard-fail", "--healthz-bind-address="]].concat();
    let said = refused(&on(&world, &hard));
    for word in ["/metrics", "10249", "--metrics-bind-address", "Address already in use"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    drop(taken);
    ask_until(&world, METRICS, "/healthz", |code, _| code == 200);
}

#[test]
fn an_empty_address_serves_nothing() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let flags = ["--healthz-bind-address=", "--metrics-port=0"];
    let _agent = Agent::with(&world, shunt(), &[&["--mode", "connect"], &flags[..]].concat());
    reaches(&world, &["echo-1"]);
    for at in [HEALTH, METRICS] {
        let refused = ask(&world, at, "/healthz").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{at}");
    }
}

#[test]
fn a_node_that_is_to_go_gets_no_new_connections_from_outside() {
    let Some(world) = world() else { return };
    let cluster = Cluster::start(&world);
    cluster.put_node(&Value::Null);
    let _agent = cluster.agent(&world, &[]);
    let eligible = |expected: bool| {
        let code = if expected { 200 } else { 503 };
        let answer = ask_until(&world, HEALTH, "/healthz", |found, body| {
            found == code && body.contains(&format!("\"nodeEligible\":{expected}"))
        });
        assert_eq!(body(&answer)["healthy"], true, "{answer}");
        let (code, live) = ask(&world, HEALTH, "/livez").unwrap();
        assert!(code == 200 && !live.contains("nodeEligible"), "{code} {live}");
    };
    metric(&world, METRICS, "shunt_synced", |value| value > 0.5);
    eligible(true);
    let taint = json!([{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }]);
    cluster.put_node(&json!({ "spec": { "taints": taint } }));
    eligible(false);
    cluster.put_node(&Value::Null);
    eligible(true);
    cluster.put_node(&json!({ "metadata": { "deletionTimestamp": "2026-11-25T00:00:00Z" } }));
    eligible(false);
    cluster.put_node(&Value::Null);
    eligible(true);
    cluster.server.delete("nodes", "", World::OWN_NODE);
    eligible(false);
    metric(&world, METRICS, "shunt_node_eligible", |value| value < 0.5);
}

#[test]
fn what_happens_is_told_in_events() {
    let Some(world) = world() else { return };
    let cluster = Cluster::start(&world);
    cluster.put_node(&Value::Null);
    let shared = json!({ "externalIPs": ["203.0.113.1"] });
    cluster.put_service("web", "10.96.0.10", &shared);
    cluster.put_service("late", "10.96.0.11", &shared);
    // The packet path's tables are another's, so that this one is in trouble.
    let first = Agent::with(&world, shunt(), &["--mode", "nftables", "--metrics-port=0"]);
    first.says("started");
    let flags = ["--iptables-sync-period=1s", "--healthz-bind-address=127.0.0.1:10266"];
    let mut command = shunt();
    command.args(["--mode", "auto", "--master", &cluster.server.url()]);
    command.args(["--kube-api-qps", "1000", "--kube-api-burst", "1000"]);
    let _agent = Agent::launch(&world, command, &flags);
    let starting = cluster.event(&world, "Starting");
    assert_eq!(starting["regarding"]["kind"], "Node", "{starting}");
    assert_eq!(starting["regarding"]["name"], World::OWN_NODE, "{starting}");
    let clash = cluster.event(&world, "FrontendClash");
    assert_eq!(clash["regarding"]["uid"], "uid-of-web", "{clash}");
    assert!(clash["note"].as_str().unwrap().contains("shop/late"), "{clash}");
    let unhealthy = cluster.event(&world, "Unhealthy");
    assert!(unhealthy["note"].as_str().unwrap().contains("nftables"), "{unhealthy}");
    assert!(first.end(Signal::SIGTERM).success());
    assert_eq!(cluster.event(&world, "Recovered")["type"], "Normal");
}

#[test]
fn what_the_api_server_does_not_show_is_named_as_stale() {
    let Some(world) = world() else { return };
    let cluster = Cluster::start(&world);
    cluster.put_service("web", "10.96.0.10", &Value::Null);
    for _ in 0..100 {
        cluster.server.fail("nodes", Fault::Status(403, 0));
    }
    let _agent = cluster.agent(&world, &["--stale-after", "10ms"]);
    let answer = ask_until(&world, HEALTH, "/livez", |code, body| {
        code == 200 && body.contains("\"stale\":[\"nodes of the API server not seen since 20")
    });
    assert_eq!(body(&answer)["healthy"], true, "{answer}");
}

#[test]
fn changes_are_measured_from_the_cluster_to_the_kernel() {
    let Some(world) = world() else { return };
    let cluster = Cluster::start(&world);
    cluster.put_node(&Value::Null);
    cluster.put_service("web", "10.96.0.10", &json!({ "internalTrafficPolicy": "Local" }));
    cluster.put_slice("10.0.1.1", Some("2026-01-01T00:00:00Z"));
    let _agent = cluster.agent(&world, &[]);
    let count = "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"}";
    let timestamp = "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"}";
    metric(&world, METRICS, timestamp, |at| at > 1e9);
    metric(&world, METRICS, "kubeproxy_sync_proxy_rules_endpoint_changes_pending", |n| n < 0.5);
    metric(&world, METRICS, count, |n| n < 0.5);
    let no_local = "kubeproxy_sync_proxy_rules_no_local_endpoints_total\
                    {ip_family=\"IPv4\",traffic_policy=\"internal\"}";
    metric(&world, METRICS, no_local, |n| n > 0.5);

    cluster.put_slice("10.0.1.2", Some(&jiff::Timestamp::now().to_string()));
    metric(&world, METRICS, count, |n| (n - 1.0).abs() < 0.1);
    let (_, text) = ask(&world, METRICS, "/metrics").unwrap();
    let sum = "kubeproxy_network_programming_duration_seconds_sum{ip_family=\"IPv4\"}";
    let took = value(&text, sum).unwrap();
    assert!((0.0..PATIENCE.as_secs_f64()).contains(&took), "{took}");
    for (series, least) in [
        ("kubeproxy_sync_proxy_rules_endpoint_changes_total", 2.0),
        ("kubeproxy_sync_proxy_rules_service_changes_total", 1.0),
        ("kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}", 1.0),
        ("kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}", 1.0),
        ("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}", 2.0),
    ] {
        assert!(value(&text, series).is_some_and(|n| n >= least), "{series} in {text}");
    }
    // The same slice again tells of nothing new.
    cluster.server.fail("endpointslices", Fault::Gone);
    cluster.server.interrupt();
    cluster.runtime.block_on(cluster.server.survived("endpointslices")).unwrap();
    cluster.put_service("late", "10.96.0.12", &Value::Null);
    until("the later Service to be seen", PATIENCE, || {
        let (_, text) = ask(&world, METRICS, "/metrics").ok()?;
        let seen = value(&text, "kubeproxy_sync_proxy_rules_service_changes_total")?;
        (seen > 1.5 && value(&text, count) == Some(1.0)).then_some(())
    })
    .unwrap();
}
