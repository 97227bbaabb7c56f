//! What the demo shows, one act after the other.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Range,
    panic::resume_unwind,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use shunt_core::model::Family;
use shunt_harness::{
    probe::{Burst, How, Socket, Tally, Transport, monotonic},
    world::Pod,
};

use super::{
    manifests::{DARK, ECHO, SINGLE, TARGET_PORT},
    stage::{PATIENCE, Stage},
    tell,
};

/// Plays everything.
pub(super) fn play(stage: &Stage) -> Result<()> {
    let acts = [spread, peers, outside, comings_and_goings, refusal, price];
    for (act, number) in acts.into_iter().zip(1..) {
        stage.check()?;
        act(stage, number)?;
    }
    Ok(())
}

/// Connections spread over the endpoints.
fn spread(stage: &Stage, number: u32) -> Result<()> {
    tell::title(number, "Connections to the Service spread over its endpoints")?;
    let kinds = [
        ("TCP over IPv4", Socket::tcp4(), How::Connect, Family::V4),
        ("TCP over IPv6", Socket::tcp6(), How::Connect, Family::V6),
        ("UDP over IPv4, connected", Socket::udp4(), How::Connect, Family::V4),
        ("UDP over IPv6, by sendto", Socket::udp6(), How::SendTo, Family::V6),
    ];
    for (kind, socket, how, family) in kinds {
        let to = ECHO.at(family);
        let tally = stage.client()?.burst(Burst { how, ..Burst::new(socket, to, 300) })?;
        ensure!(tally.failed() == 0, "connections to {to} failed: {:?}", tally.failures);
        tell::line(&format!("{kind}: 300 times to {to}"))?;
        tell::spread(&names(&stage.echo()?, &tally))?;
    }
    Ok(())
}

/// What both ends see of each other.
fn peers(stage: &Stage, number: u32) -> Result<()> {
    tell::title(number, "The client sees the Service, the server sees the client")?;
    for family in Family::ALL {
        let to = ECHO.at(family);
        let visit = stage.client()?.visit(Socket::of(Transport::Tcp, to), to)?;
        ensure!(visit.peer == to, "the client dialled {to} and sees {} as its peer", visit.peer);
        tell::line(&format!("the client dialled {to}, and getpeername() says {}", visit.peer))?;
        let said = visit.said;
        tell::line(&format!("  {} answered at {}", said.server, said.endpoint))?;
        tell::line(&format!("  and saw the client itself, {}: nothing was NATed", said.source))?;
    }
    Ok(())
}

/// A client that has no socket on this node.
fn outside(stage: &Stage, number: u32) -> Result<()> {
    tell::title(number, "A client outside of the cluster is served by the packet path")?;
    let client = stage.outside()?;
    for family in Family::ALL {
        let to = ECHO.at(family);
        stage.wait_until_reached(client, to)?;
        let tally = client.burst(Burst::new(Socket::of(Transport::Tcp, to), to, 300))?;
        ensure!(tally.failed() == 0, "connections to {to} failed: {:?}", tally.failures);
        tell::line(&format!("TCP over {family}: 300 times to {to} from outside"))?;
        tell::spread(&names(&stage.echo()?, &tally))?;
    }
    Ok(())
}

/// How often echo-3 leaves and comes back.
const CHANGES: u32 = 10;

/// An endpoint leaves and comes back while clients connect.
fn comings_and_goings(stage: &Stage, number: u32) -> Result<()> {
    tell::title(number, "An endpoint leaves and comes back while clients go on connecting")?;
    let [.., three] = stage.echo()?;
    let client = stage.client()?;
    let done = AtomicBool::new(false);
    let (tallies, absence) = thread::scope(|scope| {
        let connecting = scope.spawn(|| connect_until(client, &done));
        let absence = leave_and_come_back(stage);
        done.store(true, Ordering::Relaxed);
        let tallies = connecting.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        absence.map(|absence| (tallies, absence))
    })?;
    let leaver = IpAddr::V4(three.address4());
    let strays = tallies.iter().flat_map(|tally| &tally.calls).filter(|call| {
        call.reached.is_some_and(|reached| reached.ip() == leaver)
            && absence.gone.iter().any(|gone| gone.contains(&call.started))
    });
    let strays = strays.count();
    let failed: u32 = tallies.iter().map(Tally::failed).sum();
    let answered: u32 = tallies.iter().map(Tally::answered).sum();
    tell::line(&format!("{answered} connections; {CHANGES} times echo-3 left and came back"))?;
    tell::line(&format!("  connections that failed: {failed}"))?;
    tell::line(&format!("  connections to echo-3 while it was away: {strays}"))?;
    let slowest = tell::time(absence.slowest);
    tell::line(&format!("  echo-3 was dialled at most {slowest} after its return was written"))?;
    ensure!(failed == 0 && strays == 0, "connections went wrong");
    Ok(())
}

/// When echo-3 was away, in nanoseconds of CLOCK_MONOTONIC, and how long the slowest change took.
#[derive(Default)]
struct Absence {
    gone: Vec<Range<u64>>,
    slowest: Duration,
}

fn leave_and_come_back(stage: &Stage) -> Result<Absence> {
    let [one, two, three] = stage.echo()?;
    let to = ECHO.at(Family::V4);
    let mut absence = Absence::default();
    for _ in 0..CHANGES {
        stage.change(ECHO, &[one, two])?;
        let from = monotonic();
        // Keeps it away for a while, in which both clients connect.
        let client = stage.second_client()?;
        let tally = client.burst(Burst::new(Socket::tcp4(), to, 50))?;
        ensure!(tally.failed() == 0, "connections to {to} failed: {:?}", tally.failures);
        absence.gone.push(from..monotonic());
        stage.write(ECHO, &[one, two, three])?;
        absence.slowest = absence.slowest.max(dial_until(stage, client, three)?);
    }
    Ok(absence)
}

/// Dials until a pod answers, and returns how long that took.
fn dial_until(stage: &Stage, client: &Pod, wanted: &Pod) -> Result<Duration> {
    let start = monotonic();
    loop {
        let visit = client.visit(Socket::tcp4(), ECHO.at(Family::V4))?;
        let took = Duration::from_nanos(monotonic() - start);
        if visit.said.server == wanted.name() {
            return Ok(took);
        }
        stage.check()?;
        ensure!(took < PATIENCE, "{} did not come back", wanted.name());
    }
}

fn connect_until(client: &Pod, done: &AtomicBool) -> Result<Vec<Tally>> {
    let burst = Burst { log: true, ..Burst::new(Socket::tcp4(), ECHO.at(Family::V4), 200) };
    let mut tallies = Vec::new();
    while !done.load(Ordering::Relaxed) {
        tallies.push(client.burst(burst.clone())?);
    }
    Ok(tallies)
}

/// A Service without endpoints.
fn refusal(stage: &Stage, number: u32) -> Result<()> {
    tell::title(number, "A Service without endpoints refuses at once")?;
    for family in Family::ALL {
        let to = DARK.at(family);
        let start = monotonic();
        let refused = stage.client()?.visit(Socket::of(Transport::Tcp, to), to);
        let took = Duration::from_nanos(monotonic() - start);
        let error = refused.err().with_context(|| format!("{to} answered, and must not"))?;
        tell::line(&format!("{to}: {error}, within {}", tell::time(took)))?;
    }
    Ok(())
}

/// What a connect costs.
fn price(stage: &Stage, number: u32) -> Result<()> {
    tell::title(number, "What it costs: connect() to echo-1, directly and through Shunt")?;
    let [one, ..] = stage.echo()?;
    for (name, transport) in [("TCP", Transport::Tcp), ("UDP", Transport::Udp)] {
        let direct = one.at(Family::V4, TARGET_PORT);
        let through = SINGLE.at(Family::V4);
        let [direct, through] = compare(stage, transport, [direct, through])?;
        tell::line(&format!(
            "{name}: {} directly, {} through Shunt ({:+.0} ns)",
            tell::time(Duration::from_nanos(direct)),
            tell::time(Duration::from_nanos(through)),
            through as f64 - direct as f64,
        ))?;
    }
    tell::line("Medians of 2,000 each, taken turn about. No packet is translated on its way.")
}

/// The medians of connects to two addresses, taken turn about so that both see the same machine.
fn compare(stage: &Stage, transport: Transport, to: [SocketAddr; 2]) -> Result<[u64; 2]> {
    let mut times: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..20 {
        for (to, times) in to.into_iter().zip(&mut times) {
            let socket = Socket::of(transport, to);
            times.extend(stage.client()?.burst(Burst::new(socket, to, 100))?.nanoseconds);
        }
    }
    Ok(times.map(|mut times| {
        let middle = times.len() / 2;
        *times.select_nth_unstable(middle).1
    }))
}

/// The tally by pods' names, with their address.
fn names(pods: &[&Pod], tally: &Tally) -> BTreeMap<String, u32> {
    let mut named = BTreeMap::new();
    for (address, count) in &tally.reached {
        let pod = pods.iter().find(|pod| {
            Family::ALL.iter().any(|&family| pod.addresses().of(family) == address.ip())
        });
        let name = pod.map_or_else(|| "?".to_owned(), |pod| format!("{} {address}", pod.name()));
        *named.entry(name).or_default() += count;
    }
    named
}
