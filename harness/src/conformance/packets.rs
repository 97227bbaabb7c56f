//! What becomes of packets: where they arrive, from whom, and whether at all.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use shunt_core::{backend::Feature, model::Family};

use super::{Dialect, Stage, expect::visit, external_ip};
use crate::{
    probe::{Fate, How, Sighting, Socket, Transport},
    until,
    world::{Pod, World},
};

/// How long a refusal may take to be heard of.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whose address an endpoint sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's own.
    Kept,
    /// One of the node's.
    Masqueraded,
}

impl<'w> Stage<'w> {
    /// Whether this backend decides at an application's own call, for those on its node. Loopback
    /// NodePorts tell: they can be served in no other way.
    #[must_use]
    pub fn decides_at_calls(&self) -> bool {
        self.can(Feature::LoopbackNodePort)
    }

    /// Whether calls of this pod are decided themselves, and not the packets that they cause.
    #[must_use]
    pub fn decides_calls_of(&self, pod: &Pod) -> bool {
        self.decides_at_calls() && pod.node() == World::OWN_NODE
    }

    /// Everybody who may be served: a pod, the host, and where packets without a socket on the
    /// node are served, the client outside.
    ///
    /// # Errors
    ///
    /// Fails where the world lacks one.
    pub fn clients(&self) -> Result<Vec<&'w Pod>> {
        let mut clients = vec![self.client()?, self.world().host()];
        if self.can(Feature::Forwarded) {
            clients.push(self.world().outside()?);
        }
        Ok(clients)
    }

    /// The dialects that cause different packets: a v4-mapped address causes none of its own.
    #[must_use]
    pub fn packet_dialects(&self) -> Vec<Dialect> {
        let mut dialects = self.dialects();
        dialects.retain(|dialect| !dialect.mapped);
        dialects
    }

    /// Expects that connections to `to` reach every one of `endpoints` and nobody else, and that
    /// these see the source that they should.
    ///
    /// # Errors
    ///
    /// Fails where one does not.
    pub fn expect_reach(
        &self,
        pod: &Pod,
        dialect: Dialect,
        to: SocketAddr,
        endpoints: &[SocketAddr],
        source: Source,
    ) -> Result<()> {
        let what = || format!("{dialect} from {} to {to}", pod.name());
        let host = self.world().host();
        let node = [host.addresses(), self.world().second_host_addresses()];
        let node = node.map(|addresses| addresses.of(dialect.family));
        let own = pod.addresses().of(dialect.family);
        let mut missing: BTreeSet<_> = endpoints.iter().copied().collect();
        // With six endpoints one is missed in 200 visits less than once in 10^15.
        for _ in 0..200 {
            let said = visit(pod, dialect, How::Connect, to).with_context(what)?.said;
            let (reached, seen) = (said.endpoint, said.source.ip());
            ensure!(endpoints.contains(&reached), "{}: reached {reached}", what());
            missing.remove(&reached);
            let as_expected = match source {
                Source::Kept => seen == own,
                Source::Masqueraded => node.contains(&seen),
            };
            ensure!(as_expected, "{}: {reached} sees {seen}, to be {source:?}", what());
            if missing.is_empty() {
                return Ok(());
            }
        }
        bail!("{}: never reached {missing:?}", what())
    }

    /// Expects that a connection to `to` is refused by the call that carries the address, and not
    /// by an ICMP message that comes later.
    ///
    /// # Errors
    ///
    /// Fails where it is not.
    pub fn expect_refused(&self, pod: &Pod, dialect: Dialect, to: SocketAddr) -> Result<()> {
        for how in dialect.hows() {
            let what = || format!("{dialect} {how:?} from {} to {to}", pod.name());
            let failure = visit(pod, dialect, how, to)
                .err()
                .with_context(|| format!("{}: not refused", what()))?;
            let call = match how {
                How::Connect | How::NonBlocking => "connect",
                How::FastOpen | How::SendTo => "sendto",
            };
            let expected = Some((call, Errno::ECONNREFUSED));
            ensure!(failure.errno() == expected, "{}: {failure}", what());
        }
        Ok(())
    }

    /// Expects that connections from each pod to each address are refused because of what becomes
    /// of their packets.
    ///
    /// All of them together: a TCP socket that is still inside `connect()` when the ICMP message
    /// comes learns of it a second later, when it sends the next time.
    ///
    /// # Errors
    ///
    /// Fails where one is not.
    pub fn expect_rejected(
        &self,
        pods: &[&Pod],
        dialect: Dialect,
        to: &[SocketAddr],
    ) -> Result<()> {
        let mut sockets = Vec::new();
        for pod in pods {
            for &to in to {
                let socket = pod.open(dialect.socket())?;
                socket.knock(dialect.address(to))?;
                sockets.push((format!("{dialect} from {} to {to}", pod.name()), socket));
            }
        }
        for (what, socket) in sockets {
            let fate = until(&format!("the fate of {what}"), PATIENCE, || {
                socket.fate().map(|fate| (fate != Fate::Waiting).then_some(fate)).transpose()
            })??;
            ensure!(fate == Fate::Failed(Errno::ECONNREFUSED as i32), "{what}: {fate:?}");
        }
        Ok(())
    }

    /// Expects that a first packet to `to` is eaten by the node: it is seen coming, and neither it
    /// nor any answer to it is seen leaving.
    ///
    /// # Errors
    ///
    /// Fails where it is not.
    pub fn expect_silence(&self, pod: &Pod, dialect: Dialect, to: SocketAddr) -> Result<()> {
        self.silence(pod, dialect, to, None)
            .with_context(|| format!("{dialect} from {} to {to}", pod.name()))
    }

    /// As [`Self::expect_silence`], from another address of the pod.
    ///
    /// # Errors
    ///
    /// As [`Self::expect_silence`].
    pub fn expect_silence_from(
        &self,
        pod: &Pod,
        dialect: Dialect,
        to: SocketAddr,
        from: SocketAddr,
    ) -> Result<()> {
        self.silence(pod, dialect, to, Some(from))
            .with_context(|| format!("{dialect} from {from} to {to}"))
    }

    fn silence(
        &self,
        pod: &Pod,
        dialect: Dialect,
        to: SocketAddr,
        from: Option<SocketAddr>,
    ) -> Result<()> {
        let host = self.world().host();
        let tap = host.tap()?;
        let socket = pod.open(dialect.socket())?;
        if let Some(from) = from {
            socket.bind(dialect.address(from))?;
        }
        socket.knock(dialect.address(to))?;
        let port = socket.local_name()?.port();
        self.pass_after(pod, dialect.family)?;
        let fate = socket.fate()?;
        if fate == Fate::Answered {
            bail!("answered: {:?}", socket.receive());
        }
        ensure!(fate == Fate::Waiting, "{fate:?}");
        let seen = tap.look()?;
        let is_first = |seen: &&Sighting| seen.source.port() == port && seen.destination == to;
        let came = seen.iter().filter(is_first).any(|seen| !seen.outgoing);
        ensure!(came || pod.name() == host.name(), "the node has not seen the packet: {seen:?}");
        let left = seen.iter().find(|seen| seen.outgoing && is_consequence(seen, port));
        ensure!(left.is_none(), "not eaten: {left:?}");
        Ok(())
    }

    /// Sends something to `beyond` and waits for the answer: what the pod sent before has met its
    /// fate then, because packets of one sender do not overtake each other.
    ///
    /// # Errors
    ///
    /// Fails where `beyond` does not answer.
    pub fn pass_after(&self, pod: &Pod, family: Family) -> Result<()> {
        let mark = SocketAddr::new(external_ip(family, 254), 9);
        // It listens there already if this was asked before.
        let _ = self.world().pod("beyond")?.serve(Transport::Udp, &[mark]);
        pod.visit(Socket::of(Transport::Udp, mark), mark).context("cannot pass")?;
        Ok(())
    }
}

/// Whether a packet carries on what a client at `port` sent, answers it, or reports an error.
fn is_consequence(seen: &Sighting, port: u16) -> bool {
    let is_unreachable = match seen.protocol {
        1 => seen.destination.port() >> 8 == 3,
        58 => seen.destination.port() >> 8 == 1,
        _ => false,
    };
    let ports = [seen.source.port(), seen.destination.port()];
    is_unreachable || matches!(seen.protocol, 6 | 17) && ports.contains(&port)
}
