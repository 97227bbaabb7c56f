//! Events of the programs: on and off at run time, filtered by Service.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::{net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use shunt_backends::connect::{
    ConnectBackend, ConnectOptions, Event, EventError, EventKind, EventLevel, Events,
};
use shunt_core::{
    Delta, LbBackend as _,
    backend::Bell,
    model::{Family, ObjectName, Protocol},
    plan::{Endpoint, Frontend, FrontendKind, ServicePort, ServicePortKey},
};
use shunt_harness::{
    probe::{ProbeProgram, Socket, Transport},
    tier::may_run_privileged,
    world::World,
};

fn key(name: &str) -> ServicePortKey {
    ServicePortKey {
        service: ObjectName::new("events", name),
        port: "".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    }
}

fn service(address: SocketAddr, endpoint: Option<SocketAddr>) -> Option<Arc<ServicePort>> {
    let mut port = ServicePort::new();
    let number = NonZeroU16::new(address.port()).unwrap();
    port.frontends = vec![Frontend::new(FrontendKind::ClusterIp(address.ip()), number)].into();
    port.endpoints = endpoint.map(Endpoint::new).into_iter().collect();
    port.has_any = endpoint.is_some();
    Some(Arc::new(port))
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap()
}

#[test]
fn events_say_what_became_of_calls_to_the_wanted_service() {
    if !may_run_privileged() {
        return;
    }
    let program = ProbeProgram::new(env!("CARGO_BIN_EXE_shunt-probe"), [""; 0]);
    let world = World::standard(&program).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    world.host().run(|| runtime().block_on(play(&world))).unwrap();
}

async fn play(world: &World) {
    let echo = world.pod("echo-1").unwrap();
    let endpoint = echo.serve(Transport::Tcp, &[echo.at(Family::V4, 8080)]).unwrap()[0];
    let [lit, dark]: [SocketAddr; 2] =
        ["10.96.0.1:80", "10.96.0.2:80"].map(|address| address.parse().unwrap());
    let options = ConnectOptions {
        cgroup: Some(world.cgroup().to_owned()),
        pin_path: world.pin_path(),
        ..ConnectOptions::default()
    };
    let open = |only: Option<&str>| {
        let only = only.map(|name| ObjectName::new("events", name));
        Events::open(&world.pin_path(), EventLevel::All, only)
    };
    assert!(matches!(open(None).err(), Some(EventError::NoTables { .. })));

    let mut backend = ConnectBackend::new(options);
    backend.start(Bell::default()).await.unwrap();
    let mut delta = Delta::default();
    delta.complete = true;
    delta.service_ports.insert(key("lit"), service(lit, Some(endpoint)));
    delta.service_ports.insert(key("dark"), service(dark, None));
    assert!(backend.apply(&delta).await.is_success());

    let client = world.pod("client").unwrap();
    // Nobody looks yet: this one is never told.
    client.visit(Socket::tcp4(), lit).unwrap();
    let mut all = open(None).unwrap();
    client.visit(Socket::tcp4(), lit).unwrap();
    let event = next(&mut all).await;
    assert_eq!((event.kind, event.dialled), (EventKind::Translated, lit));
    assert_eq!((event.endpoint, event.service), (Some(endpoint), Some(key("lit"))));
    client.visit(Socket::tcp4(), dark).unwrap_err();
    let event = next(&mut all).await;
    assert_eq!((event.kind, event.dialled, event.endpoint), (EventKind::Refused, dark, None));
    drop(all);

    assert!(matches!(open(Some("absent")).err(), Some(EventError::NoService { .. })));
    let mut some = open(Some("dark")).unwrap();
    client.visit(Socket::tcp4(), lit).unwrap();
    client.visit(Socket::tcp4(), dark).unwrap_err();
    assert_eq!(next(&mut some).await.service, Some(key("dark")));
    drop(some);

    // It is the programs that filter: a reader of everything sees what they write.
    let mut all = open(None).unwrap();
    let some = open(Some("dark")).unwrap();
    client.visit(Socket::tcp4(), lit).unwrap();
    client.visit(Socket::tcp4(), dark).unwrap_err();
    assert_eq!(next(&mut all).await.service, Some(key("dark")));
    drop(some);
    // At the level of errors a decision that is none is not told.
    let errors = Events::open(&world.pin_path(), EventLevel::Errors, None).unwrap();
    client.visit(Socket::tcp4(), dark).unwrap_err();
    drop(errors);
    let again = open(None).unwrap();
    client.visit(Socket::tcp4(), lit).unwrap();
    assert_eq!(next(&mut all).await.kind, EventKind::Translated);
    client.visit(Socket::tcp4(), dark).unwrap_err();
    assert_eq!(next(&mut all).await.kind, EventKind::Refused);
    drop(again);
}
