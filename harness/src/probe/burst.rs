//! Many visits from several threads, without a word to the world between them.

use std::{collections::BTreeMap, net::SocketAddr, thread};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{Failure, How, Socket, Visit, client};

/// Many visits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Burst {
    /// The kind of socket.
    pub socket: Socket,
    /// By which call.
    pub how: How,
    /// Where to, in turn.
    pub to: Vec<SocketAddr>,
    /// Visits in all.
    pub count: u32,
    /// Threads that share them.
    pub threads: u32,
    /// Whether the tally has every single call.
    pub log: bool,
    /// The local port of the first visit; each next one has the next port. Without it the kernel
    /// chooses, and may choose one that a visit had before.
    pub first_port: Option<u16>,
}

impl Burst {
    /// `count` visits to `to`, one after the other.
    #[must_use]
    pub fn new(socket: Socket, to: SocketAddr, count: u32) -> Self {
        Self {
            socket,
            how: How::Connect,
            to: vec![to],
            count,
            threads: 1,
            log: false,
            first_port: None,
        }
    }

    pub(super) fn run(&self) -> Tally {
        let threads = self.threads.max(1);
        let tallies: Vec<Tally> = thread::scope(|scope| {
            let running: Vec<_> =
                (0..threads).map(|first| scope.spawn(move || self.share(first, threads))).collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let mut all = Tally::default();
        for tally in tallies {
            all.merge(tally);
        }
        all.nanoseconds.sort_unstable();
        all
    }

    /// Every `step`th visit from number `first` on.
    fn share(&self, first: u32, step: u32) -> Tally {
        let mut tally = Tally::default();
        let turns = self.to.iter().cycle().skip(first as usize).step_by(step as usize);
        for (number, &to) in (first..self.count).step_by(step as usize).zip(turns) {
            let port = self.first_port.map(|port| port.wrapping_add(number as u16));
            let started = monotonic();
            let result = client::visit(self.socket, self.how, to, port);
            tally.add(to, started, result, self.log);
        }
        tally
    }
}

/// How a [`Burst`] went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How often each endpoint answered, by its own address.
    pub reached: BTreeMap<SocketAddr, u32>,
    /// How often clients saw each address as their peer.
    pub peers: BTreeMap<SocketAddr, u32>,
    /// How often what failed.
    pub failures: BTreeMap<String, u32>,
    /// What each successful connecting call took, in nanoseconds, sorted.
    pub nanoseconds: Vec<u64>,
    /// Every visit, if the burst asked for that.
    pub calls: Vec<Call>,
}

/// One visit of a [`Burst`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Where to.
    pub to: SocketAddr,
    /// Just before it, in nanoseconds of CLOCK_MONOTONIC, which all processes share.
    pub started: u64,
    /// Just after the call that connects returned, or after the failure.
    pub ended: u64,
    /// Which endpoint answered.
    pub reached: Option<SocketAddr>,
}

impl Tally {
    /// Visits that were answered.
    #[must_use]
    pub fn answered(&self) -> u32 {
        self.reached.values().sum()
    }

    /// Visits that failed.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failures.values().sum()
    }

    /// The time within which a share of the connecting calls were done, in nanoseconds.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let last = self.nanoseconds.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index from a share between 0 and 1"
        )]
        let index = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
        self.nanoseconds.get(index).copied()
    }

    fn add(&mut self, to: SocketAddr, started: u64, result: Result<Visit, Failure>, log: bool) {
        let (reached, ended) = match result {
            Ok(visit) => {
                *self.reached.entry(visit.said.endpoint).or_default() += 1;
                *self.peers.entry(visit.peer).or_default() += 1;
                self.nanoseconds.push(visit.nanoseconds);
                (Some(visit.said.endpoint), visit.ended)
            }
            Err(failure) => {
                *self.failures.entry(failure.to_string()).or_default() += 1;
                (None, monotonic())
            }
        };
        if log {
            self.calls.push(Call { to, started, ended, reached });
        }
    }

    /// Adds what another burst did. Its times are not sorted in.
    pub fn merge(&mut self, other: Self) {
        for (address, count) in other.reached {
            *self.reached.entry(address).or_default() += count;
        }
        for (address, count) in other.peers {
            *self.peers.entry(address).or_default() += count;
        }
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        self.nanoseconds.extend(other.nanoseconds);
        self.calls.extend(other.calls);
    }
}

/// Now, in nanoseconds of CLOCK_MONOTONIC.
#[must_use]
pub fn monotonic() -> u64 {
    // The clock exists on every Linux, and its numbers are not negative.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000
            + u64::try_from(now.tv_nsec()).unwrap_or(0)
    })
}
