//! The same call to several addresses in turn, timed: what a benchmark compares.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Failure, How, Socket, Transport, burst::monotonic, client};

/// Calls to several addresses, interleaved so that whatever disturbs the machine disturbs all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Race {
    /// The kind of socket.
    pub socket: Socket,
    /// What is timed.
    pub lap: Lap,
    /// Who runs: the addresses of each lane, which its calls take in turn.
    pub lanes: Vec<Vec<SocketAddr>>,
    /// Rounds; in each, every lane has one turn.
    pub rounds: u32,
    /// Calls in a turn.
    pub calls: u32,
}

/// What is timed in a [`Race`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lap {
    /// `connect` of a new socket.
    Connect,
    /// `sendto` on a socket that is kept for a turn; UDP only.
    Send,
    /// `connect` of a new socket, the first thing that it sends and the answer; UDP only.
    Ask,
}

/// What one lane of a [`Race`] took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The median of the timed call in each turn, in nanoseconds, in order of rounds.
    pub call: Vec<u64>,
    /// What each turn took for one call with all that belongs to it (opening, closing), in
    /// nanoseconds, in order of rounds.
    pub whole: Vec<u64>,
}

impl Race {
    pub(super) fn run(&self) -> Result<Vec<Times>, Failure> {
        let mut times = vec![Times::default(); self.lanes.len()];
        for round in 0..self.rounds as usize {
            for (lane, times) in self.lanes.iter().zip(&mut times) {
                let (calls, length) = (self.calls as usize, lane.len().max(1));
                let turn = lane.iter().copied().cycle().skip(round * calls % length).take(calls);
                let begin = monotonic();
                let call = match self.lap {
                    Lap::Send => self.send(turn)?,
                    Lap::Connect | Lap::Ask => self.connect(turn)?,
                };
                times.whole.push((monotonic() - begin) / u64::from(self.calls.max(1)));
                times.call.push(call);
            }
        }
        Ok(times)
    }

    /// Opens, connects, is answered if that is asked for, and closes; the median of what is timed.
    fn connect(&self, turn: impl Iterator<Item = SocketAddr>) -> Result<u64, Failure> {
        let mut took = Vec::with_capacity(self.calls as usize);
        for to in turn {
            let socket = self.socket.open()?;
            if self.socket.transport != Transport::Udp {
                client::reset_at_close(&socket)?;
            }
            let begin = monotonic();
            client::connect(&socket, to, How::Connect)?;
            if self.lap == Lap::Ask {
                client::send(&socket)?;
                client::receive(&socket)?;
            }
            took.push(monotonic() - begin);
        }
        took.sort_unstable();
        Ok(took.get(took.len() / 2).copied().unwrap_or_default())
    }

    /// Sends on one socket; the mean, for one send is shorter than a reading of the clock is
    /// exact. What the servers answer fills the socket's buffer and is then dropped by the kernel.
    fn send(&self, turn: impl Iterator<Item = SocketAddr>) -> Result<u64, Failure> {
        let socket = self.socket.open()?;
        let begin = monotonic();
        for to in turn {
            client::send_to(&socket, to)?;
        }
        Ok((monotonic() - begin) / u64::from(self.calls.max(1)))
    }
}
