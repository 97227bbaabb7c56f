//! No false failure: while endpoints and other Services come and go, no connect fails, misses, or
//! reaches an endpoint outside the sets that were valid between its start and its return.
//!
//! UDP is judged only where a call itself is decided. On the packet path a client that gets a port
//! which an earlier one had is the same flow to the kernel, and goes on to that one's endpoint as
//! long as it serves: what it reaches says nothing about the sets of its own time.
//!
//! 20,000 connects during at least 2,000 changes; `SHUNT_CHURN=full` makes that 100,000 and
//! 10,000, `SHUNT_CHURN=short` 2,000 and 200, for kernels without a compiler for programs.

use std::{
    env,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use shunt_core::model::{Family, Protocol};

use super::{
    Dialect, Service, Stage, capabilities::may_miss_during_changes, meanwhile::Caller, service_ip,
};
use crate::probe::{Burst, Call, How, Tally, monotonic};

/// Connects between two looks at whether enough has changed.
const BURST: u32 = 500;

/// Where the kernel can miss an element while a change is committed, at most one of so many connects
/// may fail: a packet has to meet just that moment.
const RARELY: u32 = 200;

/// Services that come and go beside the one that is dialled.
const OTHERS: u16 = 8;

/// Every dialect that has calls of its own, with its share of the whole.
const RUNS: [(Dialect, How); 4] = [
    (Dialect { protocol: Protocol::Tcp, family: Family::V4, mapped: false }, How::Connect),
    (Dialect { protocol: Protocol::Tcp, family: Family::V6, mapped: false }, How::Connect),
    (Dialect { protocol: Protocol::Udp, family: Family::V4, mapped: false }, How::Connect),
    (Dialect { protocol: Protocol::Udp, family: Family::V6, mapped: false }, How::SendTo),
];

/// Connects from several threads while the sets change as fast as they can be applied.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let (connects, changes) = match env::var("SHUNT_CHURN").as_deref() {
        Ok("full") => (100_000, 10_000),
        Ok("short") => (2_000, 200),
        _ => (20_000, 2_000),
    };
    let dialects = stage.dialects();
    for (number, (dialect, how)) in (1..).zip(RUNS) {
        if dialects.contains(&dialect) {
            let share = RUNS.len() as u32;
            churn(stage, dialect, how, number, connects / share, changes / share as usize)
                .with_context(|| format!("{dialect} {how:?}"))?;
        }
    }
    Ok(())
}

fn churn(
    stage: &mut Stage<'_>,
    dialect: Dialect,
    how: How,
    number: u16,
    connects: u32,
    changes: usize,
) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 20 * number, 9)?;
    let (steady_set, moving) = all.split_at(1);
    let address = SocketAddr::new(service_ip(family, 1000 * number), 80);
    let steady = SocketAddr::new(service_ip(family, 1000 * number + 1), 80);
    let service = Service::new(&format!("moving-{number}"), protocol, family);
    let service = service.cluster_ip(address);
    let other = Service::new(&format!("steady-{number}"), protocol, family);
    let mut log = vec![Change { started: 0, ended: 0, set: moving[..1].to_vec() }];
    let first = service.clone().endpoints(&moving[..1]);
    stage.serve([first, other.cluster_ip(steady).endpoints(steady_set)])?.nothing()?;

    let burst = Burst {
        how,
        to: vec![address, address, steady].into_iter().map(|a| dialect.address(a)).collect(),
        threads: 3,
        log: true,
        ..Burst::new(dialect.socket(), address, BURST)
    };
    let may_miss = may_miss_during_changes(stage)?;
    let mut clients = stage.clients()?;
    if protocol == Protocol::Udp {
        clients.retain(|pod| stage.decides_calls_of(pod));
    }
    if clients.is_empty() {
        return Ok(());
    }
    let share = connects / clients.len() as u32;
    let callers = clients.into_iter().map(|pod| Caller::new(pod, burst.clone()));
    let callers: Vec<_> = callers.collect();
    let (connected, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let tallies = thread::scope(|scope| {
        let (connected, enough) = (&connected, &enough);
        let connecting: Vec<_> = callers
            .into_iter()
            .map(|caller| scope.spawn(move || connect(caller, share, may_miss, connected, enough)))
            .collect();
        let all = connecting.len();
        let changed = (|| {
            while !(connected.load(Ordering::Acquire) == all && log.len() > changes) {
                enough.store(log.len() > changes, Ordering::Release);
                let early = connecting.iter().any(|connecting| connecting.is_finished());
                ensure!(!early || log.len() > changes, "the clients ended early");
                change(stage, &service, moving, &mut log)?;
            }
            Ok(())
        })();
        enough.store(true, Ordering::Release);
        let tallies = connecting.into_iter().map(|connecting| {
            connecting.join().unwrap_or_else(|_| bail!("the thread of a client panicked"))
        });
        // What a client saw says more than that it gave up.
        let tallies = tallies.collect::<Result<Vec<_>>>()?;
        changed.map(|()| tallies)
    })?;
    for (name, tally) in tallies {
        judge(&tally, &log, dialect.address(steady), steady_set, may_miss)
            .with_context(|| format!("from {name}"))?;
    }
    Ok(())
}

/// Bursts until there were enough connects, and enough changes during them; then `connected` is one
/// more.
fn connect(
    mut caller: Caller<'_>,
    connects: u32,
    may_miss: bool,
    connected: &AtomicUsize,
    enough: &AtomicBool,
) -> Result<(String, Tally)> {
    let name = caller.pod().name().to_owned();
    let mut all = Tally::default();
    let mut is_counted = false;
    while all.answered() < connects || !enough.load(Ordering::Acquire) {
        // Who has done enough only goes on so that there is somebody during the rest of the changes.
        all.merge(if is_counted { caller.call_times(BURST / 10) } else { caller.call() }?);
        ensure!(may_miss || all.failed() == 0, "failed connects from {name}: {:?}", all.failures);
        if all.answered() >= connects && !is_counted {
            connected.fetch_add(1, Ordering::Release);
            is_counted = true;
        }
    }
    Ok((name, all))
}

/// A set of endpoints and when it was being applied, in nanoseconds of CLOCK_MONOTONIC.
struct Change {
    started: u64,
    ended: u64,
    set: Vec<SocketAddr>,
}

/// The next set, with another Service created or removed in the same Delta every other time.
fn change(
    stage: &mut Stage<'_>,
    service: &Service,
    all: &[SocketAddr],
    log: &mut Vec<Change>,
) -> Result<()> {
    let step = log.len();
    // 1→2→1, N→N-1, full replacement both ways.
    let set = match step % 8 {
        0 | 2 => &all[..1],
        1 => &all[..2],
        3 => &all[..6],
        4 => &all[1..6],
        5 => &all[6..],
        6 => &all[..5],
        _ => &all[5..],
    };
    // A flow to an endpoint that is gone is forgotten, whatever is on its way. So endpoints of UDP
    // leave as they do in a cluster: they serve on while new connections go elsewhere.
    let next = match service.key.protocol {
        Protocol::Udp => {
            let gone: Vec<_> = all.iter().copied().filter(|e| !set.contains(e)).collect();
            service.clone().endpoints(all).leaving(&gone)
        }
        _ => service.clone().endpoints(set),
    };
    let started = monotonic();
    stage.serve([next])?.nothing()?;
    log.push(Change { started, ended: monotonic(), set: set.to_vec() });
    let other = Service::new(
        &format!("other-{}", step as u16 % OTHERS),
        service.key.protocol,
        service.key.family,
    );
    if (step / usize::from(OTHERS)).is_multiple_of(2) {
        let address = service_ip(service.key.family, 100 + step as u16 % OTHERS);
        let other = other.cluster_ip(SocketAddr::new(address, 80)).endpoints(set);
        stage.serve([other])?.nothing()
    } else {
        stage.remove([other.key])?.nothing()
    }
}

fn judge(
    tally: &Tally,
    log: &[Change],
    steady: SocketAddr,
    steady_set: &[SocketAddr],
    may_miss: bool,
) -> Result<()> {
    ensure!(
        tally.failed() == 0 || may_miss && tally.failed() <= tally.answered() / RARELY,
        "failed connects beside {} that did not: {:?}",
        tally.answered(),
        tally.failures
    );
    let mut overlapping = 0_usize;
    for call in &tally.calls {
        let Some(reached) = call.reached else { continue };
        if call.to == steady {
            ensure!(steady_set.contains(&reached), "a Service that did not change: {reached}");
            continue;
        }
        let valid = valid(log, call);
        ensure!(
            valid.iter().any(|change| change.set.contains(&reached)),
            "reached {reached}, valid were {:?}",
            valid.iter().map(|change| &change.set).collect::<Vec<_>>()
        );
        overlapping += usize::from(
            valid.iter().any(|change| call.started < change.ended && change.started < call.ended),
        );
    }
    // Where changes are slow, clients call many times between two of them.
    ensure!(
        overlapping > (tally.calls.len() / 50).min(log.len()),
        "only {overlapping} of {} connects overlapped one of {} changes",
        tally.calls.len(),
        log.len()
    );
    Ok(())
}

/// The sets that were in force at some moment of a call: from the start of the change that brought
/// it to the end of the one that replaced it.
fn valid<'a>(log: &'a [Change], call: &Call) -> &'a [Change] {
    let after = log.partition_point(|change| change.started <= call.ended);
    let replaced = log.partition_point(|change| change.ended < call.started);
    &log[replaced.saturating_sub(1)..after]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets 0, 1, 2, applied at 0..0, 10..20 and 30..40.
    fn check(started: u64, ended: u64, expected: &[u16]) {
        let set = |port| vec![SocketAddr::from(([10, 0, 0, 1], port))];
        let log = [(0, 0, 0), (10, 20, 1), (30, 40, 2)].map(|(started, ended, port)| Change {
            started,
            ended,
            set: set(port),
        });
        let call = Call { to: set(0)[0], started, ended, reached: None };
        let ports: Vec<_> = valid(&log, &call).iter().map(|change| change.set[0].port()).collect();
        assert_eq!(ports, expected, "{started}..{ended}");
    }

    #[test]
    fn a_set_is_valid_from_the_start_of_its_change_to_the_end_of_the_next() {
        check(1, 2, &[0]);
        check(1, 10, &[0, 1]);
        check(15, 16, &[0, 1]);
        check(20, 25, &[0, 1]);
        check(21, 25, &[1]);
        check(21, 30, &[1, 2]);
        check(35, 50, &[1, 2]);
        check(41, 50, &[2]);
        check(1, 50, &[0, 1, 2]);
    }
}
