//! A pod as its world sees it: a network namespace, a cgroup and a probe process.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nlink::netlink::namespace::{self, NetnsCommand};
use serde::Serialize;
use shunt_core::model::Family;

use super::{
    Addresses, KernelSocket, Tap,
    builder::Site,
    network::{self, namespace_path},
    socket::unexpected,
};
use crate::probe::{
    Answer, Burst, Failure, How, Order, ProbeProgram, Race, Socket, Stream, Tally, Times,
    Transport, Visit,
};

/// The local ports of visits with fresh ones: below those of servers.
const FRESH_PORTS: Range<u16> = 1024..7000;

/// A pod, or the host. Its process ends when it is dropped.
#[derive(Debug)]
pub struct Pod {
    site: Site,
    process: Child,
    // Held by whoever is the next to use the channel. A mutex alone is not fair: who gives it up
    // and wants it again at once, as in bursts without pause, would keep all others from it.
    next: Mutex<()>,
    fresh_ports: AtomicBool,
    visits: AtomicU16,
    channel: Mutex<BufReader<UnixStream>>,
}

impl Pod {
    pub(super) fn start(program: &ProbeProgram, site: Site) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        let mut command = program.command();
        command.stdin(OwnedFd::from(theirs));
        let process = in_place(&site, command)?
            .spawn()
            .with_context(|| format!("cannot start the process of pod {}", site.name))?;
        let channel = Mutex::new(BufReader::new(ours));
        let (fresh_ports, visits) = (AtomicBool::new(false), AtomicU16::new(0));
        Ok(Self { site, process, next: Mutex::new(()), fresh_ports, visits, channel })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.site.name
    }

    /// The node that it runs on.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.site.node
    }

    /// Its addresses.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.site.addresses
    }

    /// Its IPv4 address.
    #[must_use]
    pub const fn address4(&self) -> Ipv4Addr {
        self.site.addresses.v4
    }

    /// Its IPv6 address.
    #[must_use]
    pub const fn address6(&self) -> Ipv6Addr {
        self.site.addresses.v6
    }

    /// Its address of one family with a port.
    #[must_use]
    pub const fn at(&self, family: Family, port: u16) -> SocketAddr {
        self.site.addresses.at(family, port)
    }

    /// Its network namespace, for `nsenter --net=` and `ip netns exec`.
    #[must_use]
    pub fn namespace(&self) -> PathBuf {
        namespace_path(&self.site)
    }

    /// Its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.site.cgroup
    }

    /// The pid of its probe process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Prepares `command` to run in the pod's network namespace and cgroup.
    ///
    /// # Errors
    ///
    /// Fails where the namespace is gone.
    pub fn command(&self, command: Command) -> Result<NetnsCommand> {
        in_place(&self.site, command)
    }

    /// Runs `work` on a thread in the pod's network namespace; threads that it starts are there
    /// too. The cgroup stays that of this process: see [`super::World::join_host`].
    ///
    /// # Errors
    ///
    /// Fails where the namespace cannot be entered, or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.namespace();
        let enter = || {
            // It holds the namespace that the thread came from, and is closed with the thread.
            let _way_back = namespace::enter_path(path)?;
            Ok(work())
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(self.site.name.clone());
            let running = thread.spawn_scoped(scope, enter).context("cannot start a thread")?;
            running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Answers at `addresses`, under the pod's name, as long as the pod lives, and returns them
    /// with the ports in use (0 takes a free one).
    ///
    /// # Errors
    ///
    /// Fails where the kernel does not let the pod listen.
    pub fn serve(
        &self,
        transport: Transport,
        addresses: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Failure> {
        let name = self.site.name.clone();
        match self.ask(&Order::Serve { name, transport, addresses: addresses.to_vec() })? {
            Answer::Serving(addresses) => Ok(addresses),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads and drops what TCP connections to `address` send, as long as the pod lives, and
    /// returns the address with the port in use: for [`Self::stream`].
    ///
    /// # Errors
    ///
    /// Fails where the kernel does not let the pod listen.
    pub fn drain(&self, address: SocketAddr) -> Result<SocketAddr, Failure> {
        match self.ask(&Order::Drain(address))? {
            Answer::Address(address) => Ok(address),
            other => Err(unexpected(&other)),
        }
    }

    /// From now on every visit by UDP has a local port that none had for long.
    ///
    /// Where packets are translated, datagrams between the same ports are one flow, which goes on
    /// where it went before; and of the ports that the kernel chooses one comes back sooner than
    /// one thinks.
    pub fn use_fresh_ports(&self) {
        self.fresh_ports.store(true, Ordering::Relaxed);
    }

    /// Connects to `to`, is answered, closes.
    ///
    /// # Errors
    ///
    /// Fails with the first call that fails.
    pub fn visit(&self, socket: Socket, to: SocketAddr) -> Result<Visit, Failure> {
        self.visit_by(How::Connect, socket, to)
    }

    /// As [`Self::visit`], by another call than `connect`.
    ///
    /// # Errors
    ///
    /// As [`Self::visit`].
    pub fn visit_by(&self, how: How, socket: Socket, to: SocketAddr) -> Result<Visit, Failure> {
        let is_fresh =
            socket.transport == Transport::Udp && self.fresh_ports.load(Ordering::Relaxed);
        let port = is_fresh.then(|| {
            let number = self.visits.fetch_add(1, Ordering::Relaxed);
            FRESH_PORTS.start + number % (FRESH_PORTS.end - FRESH_PORTS.start)
        });
        match self.ask(&Order::Visit { socket, how, to, port })? {
            Answer::Visited(visit) => Ok(visit),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes many visits. Failures of single ones are in the tally.
    ///
    /// # Errors
    ///
    /// Fails where the pod's process is gone.
    pub fn burst(&self, burst: Burst) -> Result<Tally, Failure> {
        match self.ask(&Order::Burst(burst))? {
            Answer::Tally(tally) => Ok(tally),
            other => Err(unexpected(&other)),
        }
    }

    /// Times calls to several addresses in turn.
    ///
    /// # Errors
    ///
    /// Fails with the first call that fails.
    pub fn race(&self, race: Race) -> Result<Vec<Times>, Failure> {
        match self.ask(&Order::Race(race))? {
            Answer::Raced(times) => Ok(times),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends bytes to one that [drains](Self::drain), and returns how long it took until it had
    /// read them all, in nanoseconds.
    ///
    /// # Errors
    ///
    /// Fails where not all of them arrive.
    pub fn stream(&self, stream: Stream) -> Result<u64, Failure> {
        match self.ask(&Order::Stream(stream))? {
            Answer::Streamed(nanoseconds) => Ok(nanoseconds),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a socket to drive step by step.
    ///
    /// # Errors
    ///
    /// Fails where the kernel does not make such sockets.
    pub fn open(&self, socket: Socket) -> Result<KernelSocket<'_>, Failure> {
        match self.ask(&Order::Open(socket))? {
            Answer::Opened(id) => Ok(KernelSocket::new(self, id)),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the namespace carry another address, at its loopback interface.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn carry(&self, address: IpAddr) -> Result<()> {
        network::carry(&self.site, address, true)
    }

    /// Has the namespace no longer carry such an address.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn carry_no_longer(&self, address: IpAddr) -> Result<()> {
        network::carry(&self.site, address, false)
    }

    /// Keeps an eye on every packet at the namespace's interfaces until the returned one is
    /// dropped. One at a time.
    ///
    /// # Errors
    ///
    /// Fails where the kernel does not let it.
    pub fn tap(&self) -> Result<Tap<'_>, Failure> {
        self.ask(&Order::Tap(true))?;
        Ok(Tap::new(self))
    }

    /// Sends the packet that opens an SCTP association, and waits for nothing.
    ///
    /// # Errors
    ///
    /// Fails where the kernel does not send it.
    pub fn send_sctp_init(&self, from: u16, to: SocketAddr) -> Result<(), Failure> {
        self.ask(&Order::SctpInit { from, to }).map(drop)
    }

    /// Sends an ICMP echo request and waits for the answer.
    ///
    /// # Errors
    ///
    /// Fails with what an ICMP message says, with EAGAIN after two seconds.
    pub fn ping(&self, to: IpAddr) -> Result<(), Failure> {
        self.ask(&Order::Ping(to)).map(drop)
    }

    /// Lets the process live on when this one is gone.
    pub(super) fn detach(&self) -> Result<()> {
        let answer = self.ask(&Order::Detach)?;
        ensure!(matches!(answer, Answer::Done), "the pod {} did not detach", self.site.name);
        Ok(())
    }

    /// Gives an order and takes the answer to it.
    pub(super) fn ask(&self, order: &Order) -> Result<Answer, Failure> {
        // A panic between the two halves of an exchange leaves a channel that fails at its next
        // use, which is what should be seen.
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        drop(next);
        let answer = exchange(&mut channel, order)
            .map_err(|error| Failure::Probe(format!("pod {}: {error:#}", self.site.name)))?;
        drop(channel);
        match answer {
            Answer::Failed(failure) => Err(failure),
            answer => Ok(answer),
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Both fail only where the process is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn in_place(site: &Site, command: Command) -> Result<NetnsCommand> {
    let command = NetnsCommand::path(namespace_path(site), command)
        .with_context(|| format!("cannot use network namespace {}", site.namespace))?;
    Ok(command.cgroup(&site.cgroup))
}

fn exchange(channel: &mut BufReader<UnixStream>, order: &impl Serialize) -> Result<Answer> {
    let mut line = serde_json::to_string(order).context("cannot write an order")?;
    line.push('\n');
    channel.get_mut().write_all(line.as_bytes()).context("cannot send an order")?;
    line.clear();
    let length = channel.read_line(&mut line).context("cannot read the answer")?;
    if length == 0 {
        return Err(anyhow!("the probe process is gone"));
    }
    serde_json::from_str(&line).context("cannot understand the answer")
}
