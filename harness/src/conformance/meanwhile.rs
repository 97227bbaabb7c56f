//! Clients that connect without pause while something happens.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, bail, ensure};

use crate::{
    probe::{Burst, Tally, Transport},
    world::Pod,
};

/// The local ports of datagram sockets: below those that the kernel chooses, above servers'.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Somebody who connects, burst by burst.
#[derive(Clone, Debug)]
pub(super) struct Caller<'w> {
    pod: &'w Pod,
    burst: Burst,
    next_port: u16,
}

impl<'w> Caller<'w> {
    /// `pod` makes this burst again and again.
    ///
    /// Where packets are translated, datagrams between the same ports are one flow, which goes on
    /// where it went before. A new flow is meant here: each datagram socket has a local port that
    /// none had for long.
    #[must_use]
    pub(super) const fn new(pod: &'w Pod, burst: Burst) -> Self {
        Self { pod, burst, next_port: PORTS.start }
    }

    /// Who it is.
    #[must_use]
    pub(super) const fn pod(&self) -> &'w Pod {
        self.pod
    }

    /// The next burst.
    ///
    /// # Errors
    ///
    /// Fails where the pod's process is gone.
    pub(super) fn call(&mut self) -> Result<Tally> {
        self.call_times(self.burst.count)
    }

    /// The next burst, of another length.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub(super) fn call_times(&mut self, count: u32) -> Result<Tally> {
        let mut burst = Burst { count, ..self.burst.clone() };
        if burst.socket.transport == Transport::Udp {
            let count = u16::try_from(burst.count)?;
            if PORTS.end - self.next_port < count {
                self.next_port = PORTS.start;
            }
            burst.first_port = Some(self.next_port);
            self.next_port += count;
        }
        Ok(self.pod.burst(burst)?)
    }
}

/// Has all call without pause as long as `work` goes on, and returns how it went for each. Every
/// one of them has made a burst before and during the work.
///
/// # Errors
///
/// Fails as `work` does, and where a pod's process is gone.
pub(super) fn meanwhile(
    callers: Vec<Caller<'_>>,
    work: impl FnOnce() -> Result<()>,
) -> Result<Vec<Tally>> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let calling: Vec<_> = callers
            .into_iter()
            .map(|mut caller| {
                let done = &done;
                scope.spawn(move || {
                    let mut all = Tally::default();
                    while !done.load(Ordering::Acquire) {
                        all.merge(caller.call()?);
                    }
                    Ok::<_, anyhow::Error>(all)
                })
            })
            .collect();
        let worked = work();
        done.store(true, Ordering::Release);
        let tallies = calling.into_iter().map(|calling| {
            calling.join().unwrap_or_else(|_| bail!("the thread of a client panicked"))
        });
        let tallies = tallies.collect::<Result<Vec<_>>>();
        worked?;
        tallies
    })
}

/// Expects that every call of every client reached one of `endpoints`.
///
/// # Errors
///
/// Fails where one did not.
pub(super) fn expect_served_all(
    tallies: &[Tally],
    endpoints: &[std::net::SocketAddr],
) -> Result<()> {
    for tally in tallies {
        ensure!(tally.failed() == 0, "failed connects: {:?}", tally.failures);
        ensure!(tally.answered() > 0, "no connect was made");
        let strangers: Vec<_> = tally.reached.keys().filter(|a| !endpoints.contains(a)).collect();
        ensure!(strangers.is_empty(), "reached {strangers:?}");
    }
    Ok(())
}
