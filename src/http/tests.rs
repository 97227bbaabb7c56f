//! Real HTTP on loopback, against a real engine.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use shunt_core::{
    Engine,
    engine::{EngineOptions, Status},
    model::{
        Conditions, EndpointSlice, Family, Node, NodeAddress, NodeAddressKind, ObjectName,
        PortSpec, Protocol, Service, ServiceType, SliceEndpoint, SlicePort, TrafficPolicy,
    },
    notice::{Notice, Notices, Subject},
    source::{Object, ObjectId},
};
use shunt_harness::mock::{self, MockHandle, Recorder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Health, Server};

const DEADLINE: Duration = Duration::from_secs(20);

/// An engine over a recording backend, and its servers.
struct World {
    script: MockHandle,
    backend: Recorder,
    status: watch::Receiver<Status>,
    /// Where an operator asks.
    health: SocketAddr,
    /// What an operator is told.
    told: mpsc::Receiver<Notice>,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    async fn start() -> Self {
        let (source, script) = mock::source();
        let (backend, recorder) = mock::backend();
        let mut options = EngineOptions::new("node-a");
        options.verify_period = Duration::from_secs(1);
        let period = options.verify_period;
        let backends = vec![("nftables".to_owned(), Box::new(backend) as _)];
        let engine = Engine::new(options, vec![mock::named("mock", source)], backends);
        let (status, shutdown) = (engine.status(), CancellationToken::new());
        let (notices, told) = Notices::new();
        tokio::spawn(super::serve(engine.health_checks(), status.clone(), period, notices));
        let health = on_loopback(free_port().await);
        let server = Server {
            name: "/healthz",
            address: health,
            flag: "--healthz-bind-address",
            reason: "FailedToStartProxierHealthcheck",
            hard_fail: true,
        };
        let answers = Health {
            status: status.clone(),
            patience: period * 2,
            sources: Vec::new(),
            stale_after: period,
        };
        tokio::spawn(server.run(answers.answers(), Notices::default()));
        tokio::spawn(engine.run(shutdown.clone()));
        let world = Self { script, backend: recorder, status, health, told, shutdown };
        world.node(&[Ipv4Addr::LOCALHOST]);
        world
    }

    /// The Node has these addresses, of which the first is its primary one.
    fn node(&self, addresses: &[Ipv4Addr]) {
        let mut node = Node::new("node-a".into());
        node.addresses = addresses
            .iter()
            .map(|address| NodeAddress {
                kind: NodeAddressKind::Internal,
                address: (*address).into(),
            })
            .collect();
        self.script.upsert(Object::from(node));
    }

    fn service(&self, name: &str, port: u16) {
        let mut service = Service::new(ObjectName::new("shop", name));
        service.service_type = ServiceType::LoadBalancer;
        service.external_policy = TrafficPolicy::Local;
        service.health_check_node_port = NonZeroU16::new(port);
        service.cluster_ips = vec![[10, 96, 0, 10].into()].into();
        let spec = |name: &str, port| PortSpec {
            name: name.into(),
            protocol: Protocol::Tcp,
            port,
            node_port: NonZeroU16::new(30_000 + port.get()),
        };
        service.ports = vec![spec("http", number(80)), spec("https", number(443))].into();
        self.script.upsert(Object::from(service));
    }

    /// Endpoints "address state", each behind both ports.
    fn endpoints(&self, service: &str, endpoints: &[&str]) {
        let name = ObjectName::new("shop", &format!("{service}-1"));
        let mut slice = EndpointSlice::new(name, Some(service.into()), Family::V4);
        slice.endpoints = endpoints
            .iter()
            .map(|text| {
                let (address, state) = text.split_once(' ').unwrap();
                let mut endpoint = SliceEndpoint::new(address.parse().unwrap());
                let node = if state == "elsewhere" { "node-b" } else { "node-a" };
                endpoint.node_name = Some(node.into());
                if state == "terminating" {
                    endpoint.conditions =
                        Conditions { ready: false, serving: true, terminating: true };
                }
                endpoint
            })
            .collect();
        slice.ports = [("http", 8080), ("https", 8443)]
            .map(|(name, port)| SlicePort {
                name: name.into(),
                protocol: Protocol::Tcp,
                port: number(port),
            })
            .into_iter()
            .collect();
        self.script.upsert(Object::from(slice));
    }

    /// Asks until the answer is as wished.
    async fn until(&self, at: SocketAddr, wished: impl Fn(&str) -> bool) -> String {
        self.until_asked(at, "GET /healthz", wished).await
    }

    async fn until_asked(
        &self,
        at: SocketAddr,
        request: &str,
        wished: impl Fn(&str) -> bool,
    ) -> String {
        let asking = async {
            loop {
                match ask(at, request).await {
                    Ok(answer) if wished(&answer) => return answer,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        timeout(DEADLINE, asking).await.unwrap()
    }

    async fn is_closed(&self, at: SocketAddr) {
        let asking = async {
            while TcpStream::connect(at).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, asking).await.unwrap();
    }
}

fn number(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).unwrap()
}

/// A port that is free now, at every address of loopback.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn on_loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// One request on a connection of its own; the whole answer as text.
async fn ask(at: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let text = format!("{request} HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Header lines, in lower case and sorted, without those that depend on the hour, and the body.
fn parts(answer: &str) -> (String, BTreeSet<String>, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.lines().map(str::to_lowercase);
    let headers = headers.filter(|line| !line.starts_with("date:")).collect();
    (status.to_owned(), headers, body.to_owned())
}

#[tokio::test]
async fn answers_are_those_of_kube_proxy_byte_for_byte() {
    let world = World::start().await;
    let at = on_loopback(free_port().await);
    world.service("web", at.port());
    world.endpoints(
        "web",
        &["10.0.0.1 here", "10.0.0.2 here", "10.0.0.3 elsewhere", "10.0.0.4 terminating"],
    );
    world.script.synced();
    world.until(at, |answer| answer.contains("200 OK")).await;
    for request in ["GET /healthz", "GET /", "POST /anything?x=y", "DELETE /healthz"] {
        let (status, headers, body) = parts(&ask(at, request).await.unwrap());
        assert_eq!(status, "HTTP/1.1 200 OK", "{request}");
        let expected = [
            "connection: close",
            "content-length: 91",
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 2",
        ];
        assert_eq!(headers, expected.map(str::to_owned).into(), "{request}");
        assert_eq!(
            body,
            "{\"service\":{\"namespace\":\"shop\",\"name\":\"web\"},\"localEndpoints\":2,\
             \"serviceProxyHealthy\":true}"
        );
    }
}

#[tokio::test]
async fn counts_and_services_are_followed() {
    let world = World::start().await;
    let (at, elsewhere) = (on_loopback(free_port().await), on_loopback(free_port().await));
    world.service("web", at.port());
    world.script.synced();
    let answer = world.until(at, |_| true).await;
    let (status, headers, body) = parts(&answer);
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(headers.contains("x-load-balancing-endpoint-weight: 0"), "{headers:?}");
    assert!(body.contains("\"localEndpoints\":0"), "{body}");

    world.endpoints("web", &["10.0.0.1 here"]);
    world.until(at, |answer| answer.contains("200 OK")).await;
    world.endpoints("web", &["10.0.0.1 terminating", "10.0.0.2 elsewhere"]);
    world.until(at, |answer| answer.contains("503 ")).await;

    world.service("web", elsewhere.port());
    world.until(elsewhere, |answer| answer.contains("503 ")).await;
    world.is_closed(at).await;
    world.script.remove(ObjectId::Service(ObjectName::new("shop", "web")));
    world.is_closed(elsewhere).await;
}

#[tokio::test]
async fn node_addresses_are_followed() {
    let world = World::start().await;
    let port = free_port().await;
    let second = Ipv4Addr::new(127, 0, 0, 2);
    world.service("web", port);
    world.script.synced();
    world.until(on_loopback(port), |_| true).await;
    world.node(&[second]);
    world.until(SocketAddr::new(second.into(), port), |_| true).await;
    world.is_closed(on_loopback(port)).await;
}

#[tokio::test]
async fn who_cannot_listen_harms_nobody_and_is_tried_again_at_the_next_sync() {
    let mut world = World::start().await;
    let blocker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (blocked, free) = (blocker.local_addr().unwrap(), on_loopback(free_port().await));
    world.service("blocked", blocked.port());
    world.service("free", free.port());
    world.script.synced();
    world.until(free, |_| true).await;
    let notice = timeout(DEADLINE, world.told.recv()).await.unwrap().unwrap();
    assert_eq!(notice.about, Subject::Service(ObjectName::new("shop", "blocked")));
    assert_eq!(notice.reason, "FailedToStartServiceHealthcheck");
    assert!(notice.note.contains(&blocked.to_string()), "{}", notice.note);
    drop(blocker);
    // Any change that is applied is a sync.
    world.endpoints("free", &["10.0.0.1 here"]);
    let answer = world.until(blocked, |_| true).await;
    assert!(answer.contains("\"name\":\"blocked\""), "{answer}");
    let answer = world.until(free, |answer| answer.contains("200 OK")).await;
    assert!(answer.contains("\"name\":\"free\""), "{answer}");
}

#[tokio::test]
async fn an_agent_whose_backend_is_lost_says_so() {
    let mut world = World::start().await;
    let at = on_loopback(free_port().await);
    world.service("web", at.port());
    world.endpoints("web", &["10.0.0.1 here"]);
    world.script.synced();
    world.until(at, |answer| answer.contains("200 OK")).await;
    let status = world.status.wait_for(|status| status.backends["nftables"].applied > 0);
    drop(status.await.unwrap());
    world.backend.find(&["The table is gone."]);
    world.backend.ring();
    let answer = world.until(at, |answer| answer.contains("503 ")).await;
    assert!(answer.contains("\"localEndpoints\":1,\"serviceProxyHealthy\":false"), "{answer}");
    world.backend.find(&[]);
    world.backend.ring();
    world.until(at, |answer| answer.contains("200 OK")).await;
}

#[tokio::test]
async fn an_apply_that_is_stuck_makes_the_node_unhealthy_until_it_ends() {
    let mut world = World::start().await;
    let at = world.health;
    world.service("web", free_port().await);
    world.script.synced();
    let status = world.status.wait_for(|status| status.backends["nftables"].applied > 0);
    drop(status.await.unwrap());
    for request in ["GET /healthz", "GET /livez"] {
        let answer = world.until_asked(at, request, |answer| answer.contains("200 OK")).await;
        let (_, _, body) = parts(&answer);
        assert!(body.contains("\"IPv4\":{\"lastUpdated\":\"20"), "{body}");
    }
    // Longer than anything here; the next change waits behind it.
    world.backend.delay(DEADLINE * 3);
    world.endpoints("web", &["10.0.0.1 here"]);
    for request in ["GET /healthz", "GET /livez"] {
        let answer = world.until_asked(at, request, |answer| answer.contains("503 ")).await;
        let (_, _, body) = parts(&answer);
        assert!(body.contains("\"healthy\":false"), "{body}");
    }
}

#[tokio::test]
async fn a_node_that_starts_is_healthy() {
    let world = World::start().await;
    for request in ["GET /healthz", "GET /livez"] {
        let answer = world.until_asked(world.health, request, |_| true).await;
        let (status, _, body) = parts(&answer);
        assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
        assert_eq!(body.contains("\"nodeEligible\":true"), request == "GET /healthz", "{body}");
    }
}
