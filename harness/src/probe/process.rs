//! The probe process: executes orders, one after the other.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::{fd::AsFd as _, unix::net::UnixStream},
    thread,
};

use anyhow::{Context as _, Result};

use super::{Answer, Failure, Order, client, raw, server, stream, tap::Tap};

/// Executes the orders that come on standard input until it is closed.
///
/// # Errors
///
/// Fails where standard input is not a world's socket.
pub fn run() -> Result<()> {
    let input = io::stdin().as_fd().try_clone_to_owned().context("cannot use standard input")?;
    let stream = UnixStream::from(input);
    let mut answers = stream.try_clone().context("standard input is not a socket")?;
    let mut process = Process::default();
    for line in BufReader::new(stream).lines() {
        let line = line.context("cannot read an order")?;
        let order = serde_json::from_str(&line).context("cannot understand an order")?;
        let answer = process.execute(order).unwrap_or_else(Answer::Failed);
        let mut line = serde_json::to_string(&answer).context("cannot write an answer")?;
        line.push('\n');
        answers.write_all(line.as_bytes()).context("cannot send an answer")?;
    }
    if process.detached {
        // The servers are threads that end with the process, and the process when it is killed.
        loop {
            thread::park();
        }
    }
    Ok(())
}

#[derive(Default)]
struct Process {
    sockets: HashMap<u32, socket2::Socket>,
    next: u32,
    tap: Option<Tap>,
    detached: bool,
}

impl Process {
    fn execute(&mut self, order: Order) -> Result<Answer, Failure> {
        Ok(match order {
            Order::Serve { name, transport, addresses } => {
                Answer::Serving(server::serve(&name, transport, &addresses)?)
            }
            Order::Drain(address) => Answer::Address(stream::drain(address)?),
            Order::Open(socket) => {
                self.next += 1;
                self.sockets.insert(self.next, socket.open()?);
                Answer::Opened(self.next)
            }
            Order::Bind { id, to } => {
                client::bind(self.socket(id)?, to)?;
                Answer::Done
            }
            Order::Knock { id, to } => {
                client::knock(self.socket(id)?, to)?;
                Answer::Done
            }
            Order::Fate(id) => Answer::Fate(client::fate(self.socket(id)?)?),
            Order::Connect { id, to, how } => {
                client::connect(self.socket(id)?, to, how)?;
                Answer::Done
            }
            Order::Disconnect(id) => {
                client::disconnect(self.socket(id)?)?;
                Answer::Done
            }
            Order::SendTo { id, to } => {
                client::send_to(self.socket(id)?, to)?;
                Answer::Done
            }
            Order::Send(id) => {
                client::send(self.socket(id)?)?;
                Answer::Done
            }
            Order::Receive(id) => Answer::Received(client::receive(self.socket(id)?)?),
            Order::PeerName(id) => Answer::Address(client::peer_name(self.socket(id)?)?),
            Order::LocalName(id) => Answer::Address(client::local_name(self.socket(id)?)?),
            Order::Close(id) => {
                self.sockets.remove(&id);
                Answer::Done
            }
            Order::Visit { socket, how, to, port } => {
                Answer::Visited(client::visit(socket, how, to, port)?)
            }
            Order::Burst(burst) => Answer::Tally(burst.run()),
            Order::Race(race) => Answer::Raced(race.run()?),
            Order::Stream(stream) => Answer::Streamed(stream.run()?),
            Order::Tap(true) => {
                self.tap = Some(Tap::open()?);
                Answer::Done
            }
            Order::Tap(false) => {
                self.tap = None;
                Answer::Done
            }
            Order::Look => {
                let tap = self.tap.as_ref();
                let nobody = || Failure::Probe("nobody keeps an eye on packets".to_owned());
                Answer::Seen(tap.ok_or_else(nobody)?.look()?)
            }
            Order::SctpInit { from, to } => {
                raw::send_sctp_init(from, to)?;
                Answer::Done
            }
            Order::Ping(to) => {
                raw::ping(to)?;
                Answer::Done
            }
            Order::Detach => {
                detach_stderr().map_err(|error| Failure::of("dup2", &error))?;
                self.detached = true;
                Answer::Done
            }
        })
    }

    fn socket(&self, id: u32) -> Result<&socket2::Socket, Failure> {
        self.sockets.get(&id).ok_or_else(|| Failure::Probe(format!("there is no socket {id}")))
    }
}

/// Lets go of the standard error of whoever started this: it may be a pipe whose reader waits for
/// its end.
fn detach_stderr() -> io::Result<()> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stderr(nowhere)?)
}

/// The IP address and port in a kernel's answer.
pub(super) fn internet(call: &str, address: &socket2::SockAddr) -> Result<SocketAddr, Failure> {
    address.as_socket().ok_or_else(|| Failure::Probe(format!("{call} gave no internet address")))
}
