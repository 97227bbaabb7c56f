//! Worlds and probes by themselves, without any backend.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::{net::SocketAddr, path::PathBuf};

use shunt_core::model::Family;
use shunt_harness::{
    probe::{Burst, Fate, How, Lap, ProbeProgram, Race, Socket, Stream, Transport},
    tier::may_run_privileged,
    world::{Pod, World},
};

fn world() -> World {
    World::standard(&ProbeProgram::new(env!("CARGO_BIN_EXE_shunt-probe"), [""; 0]))
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// Everything that carries the world's name.
fn traces(name: &str) -> Vec<PathBuf> {
    let cgroups = shunt_harness::world::cgroup2_mount().unwrap();
    ["/run/netns", "/run", cgroups.to_str().unwrap()]
        .into_iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.to_string_lossy().contains(name))
        .collect()
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}

#[test]
fn a_world_leaves_no_trace() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    let name = world.name().to_owned();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let membership = world.join_host().unwrap();
        assert!(world.bpffs().exists());
        std::mem::forget(membership);
        panic!("as a failing test does: {}", world.name());
    }));
    assert!(outcome.is_err());
    assert_eq!(traces(&name), Vec::<PathBuf>::new());
}

#[test]
fn what_was_kept_can_be_removed_by_name() {
    if !may_run_privileged() {
        return;
    }
    let name = world().keep().unwrap();
    assert!(World::kept().unwrap().contains(&name));
    World::remove(&name).unwrap();
    assert_eq!(traces(&name), Vec::<PathBuf>::new());
}

#[test]
fn every_kind_of_socket_reaches_every_pod() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    for (family, transport) in [
        (Family::V4, Transport::Tcp),
        (Family::V4, Transport::Udp),
        (Family::V4, Transport::Mptcp),
        (Family::V6, Transport::Tcp),
        (Family::V6, Transport::Udp),
        (Family::V6, Transport::Mptcp),
    ] {
        for pod in ["echo-1", "echo-3"].map(|name| world.pod(name).unwrap()) {
            let port = if transport == Transport::Mptcp { 8081 } else { 8080 };
            let address = pod.at(family, port);
            pod.serve(transport, &[address]).unwrap();
            check(&world, pod, transport, address);
        }
    }
}

fn check(world: &World, pod: &Pod, transport: Transport, address: SocketAddr) {
    let hows = match transport {
        Transport::Tcp => vec![How::Connect, How::NonBlocking, How::FastOpen],
        Transport::Udp => vec![How::Connect, How::NonBlocking, How::SendTo],
        Transport::Mptcp => vec![How::Connect],
    };
    let clients = ["client", "echo-2", "outside", World::OTHER_NODE];
    let clients = clients.map(|name| world.pod(name).unwrap());
    for client in clients.into_iter().chain([world.host()]) {
        for &how in &hows {
            for to in [address, mapped(address)] {
                let visit = client.visit_by(how, Socket::of(transport, to), to);
                let visit = visit.unwrap_or_else(|error| {
                    panic!("{} {transport:?} {how:?} {to}: {error}", client.name())
                });
                assert_eq!(visit.said.server, pod.name());
                assert_eq!(visit.said.endpoint, address);
                assert_eq!(visit.said.source.ip(), client.addresses().of(Family::of(address.ip())));
                assert_eq!(visit.peer, to);
            }
        }
    }
}

#[test]
fn what_nobody_translates_arrives_beyond() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    let beyond = world.pod("beyond").unwrap();
    for text in ["10.96.7.8:80", "203.0.113.9:80", "[fd96::7]:80", "[2001:db8::9]:80"] {
        let address: SocketAddr = text.parse().unwrap();
        for transport in [Transport::Tcp, Transport::Udp] {
            beyond.serve(transport, &[address]).unwrap();
            let outside = world.outside().unwrap();
            for client in [world.pod("client").unwrap(), world.host(), outside] {
                let visit = client.visit(Socket::of(transport, address), address).unwrap();
                assert_eq!((visit.said.server.as_str(), visit.peer), ("beyond", address));
            }
        }
    }
}

#[test]
fn failures_are_the_kernels() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    let client = world.pod("client").unwrap();
    let closed = world.pod("echo-1").unwrap().at(Family::V4, 9);
    let failure = client.visit(Socket::tcp4(), closed).unwrap_err();
    assert_eq!(failure.to_string(), "connect failed with ECONNREFUSED: Connection refused");
    let failure = client.visit(Socket::udp4(), closed).unwrap_err();
    assert_eq!(failure.errno().unwrap().1.to_string(), "ECONNREFUSED: Connection refused");
}

#[test]
fn a_socket_can_be_driven_step_by_step() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    let [one, two] = ["echo-1", "echo-2"].map(|name| world.pod(name).unwrap());
    for pod in [one, two] {
        pod.serve(Transport::Udp, &[pod.at(Family::V4, 53)]).unwrap();
    }
    let client = world.pod("client").unwrap();
    let socket = client.open(Socket::udp4()).unwrap();
    for pod in [one, two, one] {
        let received = socket.ask(pod.at(Family::V4, 53)).unwrap();
        assert_eq!(received.said.server, pod.name());
        assert_eq!(received.from, Some(pod.at(Family::V4, 53)));
    }
    socket.connect(How::Connect, one.at(Family::V4, 53)).unwrap();
    assert_eq!(socket.peer_name().unwrap(), one.at(Family::V4, 53));
    socket.disconnect().unwrap();
    assert!(socket.peer_name().is_err());
    socket.connect(How::Connect, two.at(Family::V4, 53)).unwrap();
    socket.send().unwrap();
    let received = socket.receive().unwrap();
    assert_eq!(received.said.server, "echo-2");
    assert_eq!(received.said.source, socket.local_name().unwrap());
}

#[test]
fn a_burst_counts_every_visit() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    let echo = world.pod("echo-1").unwrap();
    let to = [echo.at(Family::V4, 8080), echo.at(Family::V4, 8081)];
    echo.serve(Transport::Tcp, &to).unwrap();
    let closed = echo.at(Family::V4, 9);
    let burst = Burst {
        to: vec![to[0], to[1], closed],
        threads: 3,
        log: true,
        ..Burst::new(Socket::tcp4(), closed, 300)
    };
    let tally = world.pod("client").unwrap().burst(burst).unwrap();
    assert_eq!((tally.answered(), tally.failed(), tally.calls.len()), (200, 100, 300));
    assert_eq!(tally.reached[&to[1]], 100);
    assert!(tally.calls.iter().all(|call| call.started < call.ended));
    assert!(tally.quantile(0.5) <= tally.quantile(1.0));
}

#[test]
fn a_race_gives_every_lane_its_turns() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    let lane = ["echo-1", "echo-2"].map(|name| world.pod(name).unwrap().at(Family::V4, 8080));
    for name in ["echo-1", "echo-2"] {
        let pod = world.pod(name).unwrap();
        for transport in [Transport::Tcp, Transport::Udp] {
            pod.serve(transport, &[pod.at(Family::V4, 8080)]).unwrap();
        }
    }
    let client = world.pod("client").unwrap();
    let closed = world.pod("echo-1").unwrap().at(Family::V4, 9);
    for (socket, lap) in [
        (Socket::tcp4(), Lap::Connect),
        (Socket::udp4(), Lap::Connect),
        (Socket::udp4(), Lap::Send),
        (Socket::udp4(), Lap::Ask),
    ] {
        let mut race =
            Race { socket, lap, lanes: vec![lane.to_vec(), vec![lane[0]]], rounds: 3, calls: 1 };
        let times = client.race(race.clone()).unwrap();
        assert_eq!(times.len(), 2);
        for lane in &times {
            assert_eq!((lane.call.len(), lane.whole.len()), (3, 3), "{lap:?}");
            assert!(lane.call.iter().zip(&lane.whole).all(|(call, whole)| call <= whole));
        }
        // The second address of the lane is taken in the second round.
        if socket == Socket::tcp4() || lap == Lap::Ask {
            race.lanes = vec![vec![lane[0], closed]];
            race.rounds = 1;
            client.race(race.clone()).unwrap();
            race.rounds = 2;
            client.race(race).unwrap_err();
        }
    }
}

#[test]
fn a_stream_arrives_whole() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    let echo = world.pod("echo-2").unwrap();
    let to = echo.drain(echo.at(Family::V4, 0)).unwrap();
    let client = world.pod("client").unwrap();
    // More than a block, and not a multiple of it.
    for bytes in [0, 1, 10_000_001] {
        assert!(client.stream(Stream { to, bytes }).unwrap() > 0, "{bytes}");
    }
    // Who does not count what it reads is no proof.
    let talks = echo.serve(Transport::Tcp, &[echo.at(Family::V4, 8080)]).unwrap()[0];
    client.stream(Stream { to: talks, bytes: 1 }).unwrap_err();
}

#[test]
fn packets_are_seen_where_they_pass_and_where_they_arrive() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    for family in Family::ALL {
        let (outside, echo) = (world.outside().unwrap(), world.pod("echo-2").unwrap());
        let to = echo.at(family, 4444);
        let taps = [world.host(), echo].map(|pod| pod.tap().unwrap());
        outside.send_sctp_init(4321, to).unwrap();
        // Whatever goes the same way later arrives later.
        echo.serve(Transport::Udp, &[to]).unwrap();
        outside.visit(Socket::of(Transport::Udp, to), to).unwrap();
        let [passed, arrived] = taps.map(|tap| tap.look().unwrap());
        let init = (132, outside.at(family, 4321), to);
        let is_init = |seen: &shunt_harness::probe::Sighting| {
            (seen.protocol, seen.source, seen.destination) == init
        };
        assert_eq!(passed.iter().filter(|seen| is_init(seen) && !seen.outgoing).count(), 1);
        assert_eq!(passed.iter().filter(|seen| is_init(seen) && seen.outgoing).count(), 1);
        assert_eq!(arrived.iter().filter(|seen| is_init(seen)).count(), 1, "{arrived:?}");
        assert!(arrived.iter().any(|seen| (seen.protocol, seen.destination) == (17, to)));
    }
}

#[test]
fn pings_and_knocks_tell_what_becomes_of_them() {
    if !may_run_privileged() {
        return;
    }
    let world = world();
    let [client, echo] = ["client", "echo-2"].map(|name| world.pod(name).unwrap());
    for family in Family::ALL {
        for from in [client, world.host(), world.outside().unwrap()] {
            from.ping(echo.addresses().of(family)).unwrap();
            let own = from.ping(from.addresses().of(family));
            assert!(own.is_ok(), "{}: {own:?}", from.name());
        }
        let open = echo.at(family, 8080);
        echo.serve(Transport::Tcp, &[open]).unwrap();
        let fate = |to: SocketAddr, transport| {
            let socket = client.open(Socket::of(transport, to)).unwrap();
            socket.knock(to).unwrap();
            shunt_harness::until("a fate", std::time::Duration::from_secs(5), || {
                Some(socket.fate().unwrap()).filter(|fate| *fate != Fate::Waiting)
            })
            .unwrap()
        };
        assert_eq!(fate(open, Transport::Tcp), Fate::Answered);
        let refused = Fate::Failed(111);
        assert_eq!(fate(echo.at(family, 9), Transport::Tcp), refused);
        assert_eq!(fate(echo.at(family, 9), Transport::Udp), refused);
    }
}
