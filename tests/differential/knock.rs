//! Many knocks at once, by TCP and UDP, and who opens.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::errno::Errno;
use shunt_harness::{
    probe::{Failure, Fate, Socket, Transport},
    world::{KernelSocket, Pod},
};

use crate::{
    look::{Outcome, SILENCE},
    twin::{QUIET, Twin, knocks},
};

/// Sockets of one client that are open at once: four clients may knock at one pod.
const AT_ONCE: usize = 200;

/// A pause between two looks at whether something was heard, for others to answer in.
const PAUSE: Duration = Duration::from_millis(1);

/// Where to knock.
pub(crate) type Door = (Transport, SocketAddr);

/// Knocks several times at each address, at many at once.
pub(crate) fn knock(twin: &Twin, pod: &Pod, doors: &[Door], patience: u32) -> Result<Vec<Outcome>> {
    let knocks = knocks(patience);
    let mut outcomes = vec![Outcome::default(); doors.len()];
    let mut waiting: Vec<Knock<'_>> = Vec::new();
    let mut left = doors.iter().enumerate();
    loop {
        while waiting.is_empty() || waiting.len() + knocks <= AT_ONCE {
            let Some((door, &(transport, to))) = left.next() else { break };
            for _ in 0..knocks {
                let socket = pod.open(Socket::of(transport, to))?;
                if transport == Transport::Udp {
                    // Datagrams between the same ports are one flow, which goes on where it went.
                    socket.bind(SocketAddr::new(unspecified(to), twin.fresh_port()))?;
                }
                match socket.knock(to) {
                    Ok(()) => waiting.push(Knock { door, socket, since: Instant::now() }),
                    Err(failure) => drop(outcomes[door].0.insert(words(&failure))),
                }
            }
        }
        if waiting.is_empty() {
            return Ok(outcomes);
        }
        let before = waiting.len();
        let mut still = Vec::new();
        for knock in waiting {
            match knock.look(twin)? {
                Some(heard) => drop(outcomes[knock.door].0.insert(heard)),
                None if knock.since.elapsed() < QUIET * patience => still.push(knock),
                None => drop(outcomes[knock.door].0.insert(SILENCE.to_owned())),
            }
        }
        waiting = still;
        if waiting.len() == before {
            thread::park_timeout(PAUSE);
        }
    }
}

/// A socket that waits for an answer.
struct Knock<'a> {
    /// Which of the addresses it is for.
    door: usize,
    socket: KernelSocket<'a>,
    since: Instant,
}

impl Knock<'_> {
    /// What it has heard by now: who answered and what source it saw, or an error.
    fn look(&self, twin: &Twin) -> Result<Option<String>> {
        match self.socket.fate()? {
            Fate::Waiting => Ok(None),
            Fate::Failed(errno) => Ok(Some(format!("{:?}", Errno::from_raw(errno)))),
            Fate::Answered => match self.socket.receive() {
                Ok(received) => {
                    let said = received.said;
                    Ok(Some(format!("{} sees {}", said.server, twin.name(said.source.ip()))))
                }
                // Connected, and the greeting is on its way.
                Err(failure) if failure.errno().is_some_and(|(_, no)| no == Errno::EAGAIN) => {
                    Ok(None)
                }
                Err(failure) => Ok(Some(words(&failure))),
            },
        }
    }
}

/// The error, whichever call it came from: a refusal at once and one a moment later are the same.
fn words(failure: &Failure) -> String {
    failure.errno().map_or_else(|| failure.to_string(), |(_, errno)| format!("{errno:?}"))
}

fn unspecified(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
