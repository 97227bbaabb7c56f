//! The same call to several addresses in turn, timed: what a benchmark compares.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Failure, How, Socket, Transport, burst::monotonic, client};

/// Calls to several addresses, interleaved so that whatever disturbs the machine disturbs all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Race {
    /// The kind of socket.
    pub socket: Socket,
    /// By which call: `Connect` on a new socket each time, or `SendTo` on one that is kept.
    pub how: How,
    /// Who runs.
    pub lanes: Vec<SocketAddr>,
    /// Rounds; in each, every lane has one turn.
    pub rounds: u32,
    /// Calls in a turn.
    pub calls: u32,
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
        for _ in 0..self.rounds {
            for (lane, times) in self.lanes.iter().zip(&mut times) {
                let begin = monotonic();
                let call = match self.how {
                    How::SendTo => self.send(*lane)?,
                    _ => self.connect(*lane)?,
                };
                times.whole.push((monotonic() - begin) / u64::from(self.calls.max(1)));
                times.call.push(call);
            }
        }
        Ok(times)
    }

    /// Opens, connects and closes; the median of the connects.
    fn connect(&self, to: SocketAddr) -> Result<u64, Failure> {
        let mut took = Vec::with_capacity(self.calls as usize);
        for _ in 0..self.calls {
            let socket = self.socket.open()?;
            if self.socket.transport != Transport::Udp {
                client::reset_at_close(&socket)?;
            }
            let begin = monotonic();
            client::connect(&socket, to, self.how)?;
            took.push(monotonic() - begin);
        }
        took.sort_unstable();
        Ok(took.get(took.len() / 2).copied().unwrap_or_default())
    }

    /// Sends on one socket; the mean, for one send is shorter than a reading of the clock is
    /// exact. What the servers answer fills the socket's buffer and is then dropped by the kernel.
    fn send(&self, to: SocketAddr) -> Result<u64, Failure> {
        let socket = self.socket.open()?;
        let begin = monotonic();
        for _ in 0..self.calls {
            client::send_to(&socket, to)?;
        }
        Ok((monotonic() - begin) / u64::from(self.calls.max(1)))
    }
}
