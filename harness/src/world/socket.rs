//! What a test holds of a pod: a socket in its process, an eye on its packets.

use std::net::SocketAddr;

use super::Pod;
use crate::probe::{Answer, Failure, Fate, How, Order, Received, Sighting};

/// An eye on a namespace's packets.
#[derive(Debug)]
pub struct Tap<'a>(&'a Pod);

impl<'a> Tap<'a> {
    pub(super) const fn new(pod: &'a Pod) -> Self {
        Self(pod)
    }

    /// What passed since the last look.
    ///
    /// # Errors
    ///
    /// Fails where the pod's process is gone.
    pub fn look(&self) -> Result<Vec<Sighting>, Failure> {
        match self.0.ask(&Order::Look)? {
            Answer::Seen(seen) => Ok(seen),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Tap<'_> {
    fn drop(&mut self) {
        // Fails only where the process, and with it the socket, is gone.
        let _ = self.0.ask(&Order::Tap(false));
    }
}

/// A socket in a pod's process. Closed when dropped.
#[derive(Debug)]
pub struct KernelSocket<'a> {
    pod: &'a Pod,
    id: u32,
}

impl<'a> KernelSocket<'a> {
    pub(super) const fn new(pod: &'a Pod, id: u32) -> Self {
        Self { pod, id }
    }

    /// `connect`, or another call that connects.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn connect(&self, how: How, to: SocketAddr) -> Result<(), Failure> {
        self.pod.ask(&Order::Connect { id: self.id, to, how }).map(drop)
    }

    /// `bind`.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn bind(&self, to: SocketAddr) -> Result<(), Failure> {
        self.pod.ask(&Order::Bind { id: self.id, to }).map(drop)
    }

    /// Sends the first packet to `to` and does not wait for what becomes of it: see
    /// [`Self::fate`].
    ///
    /// # Errors
    ///
    /// Fails where the call itself does.
    pub fn knock(&self, to: SocketAddr) -> Result<(), Failure> {
        self.pod.ask(&Order::Knock { id: self.id, to }).map(drop)
    }

    /// What has become of a knock.
    ///
    /// # Errors
    ///
    /// Fails where the pod's process is gone.
    pub fn fate(&self) -> Result<Fate, Failure> {
        match self.pod.ask(&Order::Fate(self.id))? {
            Answer::Fate(fate) => Ok(fate),
            other => Err(unexpected(&other)),
        }
    }

    /// `connect(AF_UNSPEC)`.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn disconnect(&self) -> Result<(), Failure> {
        self.pod.ask(&Order::Disconnect(self.id)).map(drop)
    }

    /// `sendto` with an address.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn send_to(&self, to: SocketAddr) -> Result<(), Failure> {
        self.pod.ask(&Order::SendTo { id: self.id, to }).map(drop)
    }

    /// `send`.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn send(&self) -> Result<(), Failure> {
        self.pod.ask(&Order::Send(self.id)).map(drop)
    }

    /// `recvfrom` with a name.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does, with EAGAIN after two seconds.
    pub fn receive(&self) -> Result<Received, Failure> {
        match self.pod.ask(&Order::Receive(self.id))? {
            Answer::Received(received) => Ok(received),
            other => Err(unexpected(&other)),
        }
    }

    /// `sendto`, then `recvfrom`.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn ask(&self, to: SocketAddr) -> Result<Received, Failure> {
        self.send_to(to)?;
        self.receive()
    }

    /// `getpeername`.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn peer_name(&self) -> Result<SocketAddr, Failure> {
        self.address(&Order::PeerName(self.id))
    }

    /// `getsockname`.
    ///
    /// # Errors
    ///
    /// Fails as the kernel does.
    pub fn local_name(&self) -> Result<SocketAddr, Failure> {
        self.address(&Order::LocalName(self.id))
    }

    fn address(&self, order: &Order) -> Result<SocketAddr, Failure> {
        match self.pod.ask(order)? {
            Answer::Address(address) => Ok(address),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for KernelSocket<'_> {
    fn drop(&mut self) {
        // Fails only where the process, and with it the socket, is gone.
        let _ = self.pod.ask(&Order::Close(self.id));
    }
}

/// An answer that does not belong to the order.
pub(super) fn unexpected(answer: &Answer) -> Failure {
    Failure::Probe(format!("an answer to something else: {answer:?}"))
}
