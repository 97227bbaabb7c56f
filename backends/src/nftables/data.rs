//! Keys and values as the kernel lays them out in its registers: fields of whole 32-bit words.

use std::{fmt, net::IpAddr, sync::Arc};

use shunt_core::model::{Family, Protocol};

use super::ruleset::{Chain, SetName};

/// A key or a value.
pub(super) type Bytes = Box<[u8]>;

/// Puts fields one after the other.
#[derive(Default)]
pub(super) struct Fields(Vec<u8>);

impl Fields {
    /// Room for what most keys need.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(32))
    }

    /// An address.
    pub(super) fn address(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.0.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => self.0.extend_from_slice(&address.octets()),
        }
        self
    }

    /// A protocol.
    pub(super) fn protocol(mut self, protocol: Protocol) -> Self {
        self.0.extend_from_slice(&[protocol.number(), 0, 0, 0]);
        self
    }

    /// A port.
    pub(super) fn port(mut self, port: u16) -> Self {
        self.0.extend_from_slice(&port.to_be_bytes());
        self.0.extend_from_slice(&[0, 0]);
        self
    }

    /// A number, as `numgen` makes it.
    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    /// Fields that are laid out already.
    pub(super) fn then(mut self, fields: &[u8]) -> Self {
        self.0.extend_from_slice(fields);
        self
    }

    /// All of them.
    pub(super) fn done(self) -> Bytes {
        self.0.into()
    }
}

/// Takes fields off the front, the way back from [`Fields`].
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    /// An address.
    pub(super) fn address(&mut self, family: Family) -> Option<IpAddr> {
        Some(match family {
            Family::V4 => IpAddr::from(self.take::<4>()?),
            Family::V6 => IpAddr::from(self.take::<16>()?),
        })
    }

    /// A protocol that Services can have.
    pub(super) fn protocol(&mut self) -> Option<Protocol> {
        let [number, ..] = self.take::<4>()?;
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        all.into_iter().find(|protocol| protocol.number() == number)
    }

    /// A port.
    pub(super) fn port(&mut self) -> Option<u16> {
        let [high, low, ..] = self.take::<4>()?;
        Some(u16::from_be_bytes([high, low]))
    }

    /// A number.
    pub(super) fn number(&mut self) -> Option<u32> {
        self.take::<4>().map(u32::from_ne_bytes)
    }
}

/// What a map says of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Data {
    /// Nothing: the key is in a set.
    Member,
    /// The last key of the range that begins with the element's.
    Until(Bytes),
    /// A value.
    Value(Bytes),
    /// A packet goes on in this chain, for good. In all but the smallest maps that is the chain's
    /// kind, behind the protocol of the key.
    Goto(Chain),
    /// A packet is dropped.
    Drop,
    /// Something that we never write.
    Foreign,
}

/// How a map that says no verdicts says that a packet goes on in a chain: the protocol, which ends
/// one word before the key does, and the kind of the chain.
pub(super) fn kind_value(key: &[u8], chain: Chain) -> Option<Bytes> {
    let (kind, count) = chain.kind()?;
    let protocol = key.get(key.len().checked_sub(8)?..key.len() - 4)?;
    Some(Fields::new().then(protocol).number(kind).number(count).done())
}

/// The chain that such a map says.
pub(super) fn chain_of_value(value: &[u8]) -> Option<Chain> {
    let mut value = Cursor(value.get(4..)?);
    Chain::of_kind(value.number()?, value.number()?)
}

/// An element of a set or map.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// The set or map.
    pub(super) set: SetName,
    /// The key.
    pub(super) key: Bytes,
    /// What the map says of it.
    pub(super) data: Data,
    /// Whose it is, for people.
    pub(super) comment: Option<Arc<str>>,
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{:02x?}] = {:02x?}", self.set.name(), self.key, self.data)
    }
}

/// What names an element.
pub(super) type ElementKey = (SetName, Bytes);
