//! The packet path, alone and beside connect-time balancing.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use nlink::netlink::{
    Connection, Nftables, Route,
    nftables::{Chain, Family as NftFamily},
};
use serde_json::Value;
use shunt_harness::{
    probe::{Socket, Transport},
    until,
    world::{Pod, World},
};

use crate::running::{
    Agent, PATIENCE, SERVICE, on, printed, put, reaches, reaches_from, serve, world,
};

/// Where a balanced Service is dialled on the node, and where its health is asked for.
const NODE_PORT: u16 = 30_080;
const HEALTH_PORT: u16 = 32_080;

/// Writes Service `shop/lb`, of type LoadBalancer with external policy Local, served by some pods,
/// and the Node that it is asked on.
fn balance(world: &World, pods: &[&str]) {
    let endpoints: Vec<String> = pods
        .iter()
        .map(|name| world.pod(name).unwrap())
        .map(|pod| format!("- {{addresses: [{}], nodeName: {}}}\n", pod.address4(), pod.node()))
        .collect();
    put(
        world,
        "lb.yaml",
        &format!(
            "\
apiVersion: v1
kind: Node
metadata: {{name: {}}}
status:
  addresses: [{{type: InternalIP, address: {}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: lb, namespace: shop}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: {HEALTH_PORT}
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20]
  ports: [{{name: http, port: 80, nodePort: {NODE_PORT}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: lb-1
  namespace: shop
  labels: {{kubernetes.io/service-name: lb}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
{}",
            World::OWN_NODE,
            world.host().address4(),
            endpoints.concat()
        ),
    );
}

/// Works on nftables in the network namespace of the world's node.
fn in_tables<T: Send>(
    world: &World,
    work: impl AsyncFn(Connection<Nftables>) -> T + Send + Sync,
) -> T {
    let run = || runtime().block_on(async { work(Connection::<Nftables>::new().unwrap()).await });
    world.host().run(run).unwrap()
}

/// Works on the interfaces of the world's node.
fn on_node(world: &World, work: impl AsyncFn(Connection<Route>) + Send + Sync) {
    let run = || runtime().block_on(async { work(Connection::<Route>::new().unwrap()).await });
    world.host().run(run).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn tables(world: &World) -> Vec<String> {
    in_tables(world, async |kernel| {
        let tables = kernel.list_tables().await.unwrap();
        tables.into_iter().map(|table| table.name).collect()
    })
}

/// Waits until both dataplanes serve, and in the same way.
fn both_serve(world: &World) {
    until("both dataplanes to serve", PATIENCE, || {
        let services = printed(&on(world, &["get", "services", "-o", "json"]));
        let services: Value = serde_json::from_str(&services).unwrap();
        let both = serde_json::json!(["connect", "nftables"]);
        let services = services.as_array().unwrap();
        let is_both = |service: &Value| service["dataplanes"] == both;
        (!services.is_empty() && services.iter().all(is_both)).then_some(())
    })
    .unwrap();
}

/// The source that an endpoint sees when a pod dials.
fn source(pod: &Pod, to: SocketAddr) -> SocketAddr {
    pod.visit(Socket::tcp4(), to).unwrap().said.source
}

#[test]
fn the_packet_path_alone_serves_pods_the_node_and_the_world_outside() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let agent = Agent::start_mode(&world, "nftables");
    let to: SocketAddr = SERVICE.parse().unwrap();
    let clients = [world.pod("client").unwrap(), world.host(), world.outside().unwrap()];
    clients.iter().for_each(|client| reaches_from(client, to, &["echo-1"]));

    serve(&world, &["echo-2", "echo-3"]);
    clients.iter().for_each(|client| reaches_from(client, to, &["echo-2", "echo-3"]));
    assert!(!world.pin_path().exists(), "mode nftables pins nothing");

    assert!(agent.end(Signal::SIGTERM).success());
    reaches(&world, &["echo-2", "echo-3"]);
    // The next one takes over, and writes what changed meanwhile.
    serve(&world, &["echo-1"]);
    let second = Agent::start_mode(&world, "nftables");
    clients.iter().for_each(|client| reaches_from(client, to, &["echo-1"]));
    assert!(second.end(Signal::SIGTERM).success());
}

#[test]
fn auto_balances_at_connect_and_serves_the_rest_by_packets() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-2"]);
    let agent = Agent::start_mode(&world, "auto");
    both_serve(&world);
    reaches(&world, &["echo-2"]);
    let outside = world.outside().unwrap();
    reaches_from(outside, SERVICE.parse().unwrap(), &["echo-2"]);

    let endpoints = printed(&on(&world, &["get", "endpoints"]));
    assert!(endpoints.contains("connect,nftables"), "{endpoints}");
    let rules = printed(&on(&world, &["get", "rules"]));
    assert!(rules.contains("ClusterIP"), "{rules}");

    let report = printed(&on(&world, &["doctor"]));
    assert!(report.contains("Mode auto runs both"), "{report}");
    assert!(agent.end(Signal::SIGTERM).success());
    reaches_from(outside, SERVICE.parse().unwrap(), &["echo-2"]);

    let removed = printed(&on(&world, &["cleanup"]));
    assert!(removed.contains("removed table ip shunt\n"), "{removed}");
    assert!(!tables(&world).iter().any(|table| table.starts_with("shunt")), "{removed}");
    assert!(!world.pin_path().exists(), "{removed}");
    assert_eq!(printed(&on(&world, &["cleanup"])), "nothing to remove\n");
}

#[test]
fn a_table_that_someone_deletes_comes_back_while_connections_go_on() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let agent = Agent::start_mode(&world, "auto");
    both_serve(&world);
    reaches(&world, &["echo-1"]);
    let (outside, to) = (world.outside().unwrap(), SERVICE.parse().unwrap());
    reaches_from(outside, to, &["echo-1"]);
    for _ in 0..3 {
        in_tables(&world, async |kernel| kernel.del_table("shunt", NftFamily::Ip).await.unwrap());
        // What balances at connect() does not notice.
        let client = world.pod("client").unwrap();
        assert_eq!(client.visit(Socket::tcp4(), to).unwrap().said.server, "echo-1");
        reaches_from(outside, to, &["echo-1"]);
    }
    agent.says("mended");
    assert!(agent.end(Signal::SIGTERM).success());
}

#[test]
fn links_that_are_lost_leave_everything_to_the_packet_path_and_come_back() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-2"]);
    let agent = Agent::with(
        &world,
        Command::new(env!("CARGO_BIN_EXE_shunt")),
        &["--mode", "auto", "--masquerade-all", "--iptables-sync-period", "1s"],
    );
    both_serve(&world);
    let (client, to) = (world.pod("client").unwrap(), SERVICE.parse().unwrap());
    // What the packet path serves is masqueraded here, so that it can be told from the other.
    assert_eq!(source(client, to).ip(), client.address4());
    nix::mount::umount2(&world.bpffs(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    agent.says("IPv4 and IPv6 are degraded: connect in trouble, the rest serves");
    for _ in 0..200 {
        assert_eq!(client.visit(Socket::tcp4(), to).unwrap().said.server, "echo-2");
    }
    agent.says("IPv4 and IPv6 are healthy again");
    assert_eq!(source(client, to).ip(), client.address4());
    assert!(agent.end(Signal::SIGTERM).success());
}

/// Without programs on cgroups, `auto` says why in one line and serves everything by packets.
fn auto_falls_back(agent: Command, reason: &str) {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let agent = Agent::with(&world, agent, &["--mode", "auto"]);
    reaches(&world, &["echo-1"]);
    reaches_from(world.outside().unwrap(), SERVICE.parse().unwrap(), &["echo-1"]);
    let said = agent.said();
    let lines: Vec<&str> =
        said.lines().filter(|line| line.contains("connect-time balancing is off")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains(reason) && lines[0].contains("nftables serves everything"), "{said}");
    assert!(agent.end(Signal::SIGTERM).success());
}

#[test]
fn auto_falls_back_where_programs_are_not_permitted() {
    let mut agent = Command::new("setpriv");
    agent
        .args(["--bounding-set=-all,+net_admin", "--inh-caps=-all"])
        .arg(env!("CARGO_BIN_EXE_shunt"));
    auto_falls_back(agent, "CAP_");
}

#[test]
#[ignore = "takes a kernel without programs on cgroups, as `cargo xtask kernels --suites` has one"]
fn auto_falls_back_where_the_kernel_has_no_programs_on_cgroups() {
    auto_falls_back(Command::new(env!("CARGO_BIN_EXE_shunt")), "cgroup/connect4");
}

#[test]
fn a_second_agent_of_the_packet_path_is_refused_and_told_of_the_first() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let first = Agent::start_mode(&world, "auto");
    both_serve(&world);
    let folder = crate::running::manifests(&world);
    let folder = folder.to_str().unwrap();
    for mode in ["nftables", "auto"] {
        let second = ["--source", "static", "--manifests", folder, "--mode", mode];
        let said = crate::running::refused(&on(&world, &second));
        assert!(said.contains(&first.pid().to_string()), "{said}");
    }
    reaches(&world, &["echo-1"]);
}

#[test]
fn a_load_balancer_outside_asks_the_node_and_follows_its_answer() {
    let Some(world) = world() else { return };
    balance(&world, &["echo-1", "echo-2"]);
    let agent = Agent::start_mode(&world, "auto");
    let outside = world.outside().unwrap();
    let node = |port| SocketAddr::new(world.host().address4().into(), port);
    // Policy Local: the endpoint of this node alone, and it sees the client.
    reaches_from(outside, node(NODE_PORT), &["echo-1"]);
    assert_eq!(source(outside, node(NODE_PORT)).ip(), outside.address4());
    let asks = |wished: &str| {
        until(&format!("the health check to say {wished:?}"), PATIENCE, || {
            let answer = outside.run(|| ask(node(HEALTH_PORT))).unwrap();
            answer.ok().filter(|answer| answer.contains(wished))
        })
        .unwrap()
    };
    let answer = asks("200 OK");
    assert!(answer.contains("\"localEndpoints\":1,\"serviceProxyHealthy\":true"), "{answer}");
    balance(&world, &["echo-2"]);
    let answer = asks("503 ");
    assert!(answer.contains("x-load-balancing-endpoint-weight: 0"), "{answer}");
    assert!(agent.end(Signal::SIGTERM).success());
}

/// Writes Service `shop/dns` over UDP, served by some pods.
fn name(world: &World, pods: &[&str]) {
    let endpoint =
        |name: &&str| format!("- {{addresses: [{}]}}\n", world.pod(name).unwrap().address4());
    put(
        world,
        "dns.yaml",
        &format!(
            "\
apiVersion: v1
kind: Service
metadata: {{name: dns, namespace: shop}}
spec:
  clusterIP: 10.96.0.53
  clusterIPs: [10.96.0.53]
  ports: [{{name: dns, protocol: UDP, port: 53}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: dns-1
  namespace: shop
  labels: {{kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{{name: dns, protocol: UDP, port: 8053}}]
endpoints:
{}",
            pods.iter().map(endpoint).collect::<String>()
        ),
    );
}

#[test]
fn a_udp_client_that_goes_on_sending_reaches_what_serves_now() {
    let Some(world) = world() else { return };
    for pod in ["echo-1", "echo-2"].map(|name| world.pod(name).unwrap()) {
        pod.serve(Transport::Udp, &[SocketAddr::new(pod.address4().into(), 8053)]).unwrap();
    }
    name(&world, &["echo-1"]);
    let mut agent = Agent::start_mode(&world, "nftables");
    let to: SocketAddr = "10.96.0.53:53".parse().unwrap();
    let outside = world.outside().unwrap();
    until("the Service to be served", PATIENCE, || outside.visit(Socket::udp4(), to).ok()).unwrap();

    // One socket, one source port, and so one flow to the kernel.
    let socket = outside.open(Socket::udp4()).unwrap();
    let reaches = |server: &str| {
        until(&format!("the socket to reach {server}"), PATIENCE, || {
            socket.ask(to).ok().filter(|received| received.said.server == server)
        })
        .unwrap();
    };
    reaches("echo-1");
    name(&world, &["echo-2"]);
    reaches("echo-2");
    // What serves goes on serving, also over a restart of the agent.
    let from = socket.local_name().unwrap();
    name(&world, &["echo-1", "echo-2"]);
    assert!(agent.end(Signal::SIGTERM).success());
    agent = Agent::start_mode(&world, "nftables");
    until("the new agent to take over", PATIENCE, || {
        let endpoints = printed(&on(&world, &["get", "endpoints", "dns"]));
        endpoints.contains(&world.pod("echo-1").unwrap().address4().to_string()).then_some(())
    })
    .unwrap();
    for _ in 0..50 {
        assert_eq!(socket.ask(to).unwrap().said.server, "echo-2");
    }
    assert_eq!(socket.local_name().unwrap(), from);
    assert!(agent.end(Signal::SIGTERM).success());
}

fn ask(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn addresses_that_come_and_go_answer_node_ports_as_they_do() {
    let Some(world) = world() else { return };
    balance(&world, &["echo-1"]);
    let agent = Agent::with(
        &world,
        Command::new(env!("CARGO_BIN_EXE_shunt")),
        &["--mode", "nftables", "--nodeport-addresses", "203.0.113.0/24"],
    );
    let outside = world.outside().unwrap();
    let come = SocketAddr::new([203, 0, 113, 77].into(), NODE_PORT);
    on_node(&world, async |node| {
        node.add_address_by_name("lo", come.ip(), 32).await.unwrap();
    });
    reaches_from(outside, come, &["echo-1"]);
    // The node's own address is not selected.
    let own = SocketAddr::new(world.host().address4().into(), NODE_PORT);
    assert!(outside.visit(Socket::tcp4(), own).is_err());
    on_node(&world, async |node| node.del_address("lo", come.ip(), 32).await.unwrap());
    until("the address to be gone", PATIENCE, || {
        outside.visit(Socket::tcp4(), come).is_err().then_some(())
    })
    .unwrap();
    assert!(agent.end(Signal::SIGTERM).success());
}

#[test]
fn doctor_names_a_kube_proxy_beside_us() {
    let Some(world) = world() else { return };
    in_tables(&world, async |kernel| {
        kernel.add_table("kube-proxy", NftFamily::Ip).await.unwrap();
        kernel.add_table("nat", NftFamily::Ip6).await.unwrap();
        let chain = Chain::new("nat", "KUBE-SERVICES").unwrap().family(NftFamily::Ip6);
        kernel.add_chain(chain).await.unwrap();
    });
    let report = printed(&on(&world, &["doctor"]));
    assert!(report.contains("table ip kube-proxy, of kube-proxy in nftables mode"), "{report}");
    assert!(report.contains("1 KUBE-* chains in table ip6 nat"), "{report}");
}
