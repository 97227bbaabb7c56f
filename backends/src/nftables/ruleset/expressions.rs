//! The body of a rule, one expression after the other.
//!
//! A register is named by the 32-bit word that it begins at. A rule uses only what it loaded
//! itself: the kernel does not promise that registers outlive a rule.

use nlink::netlink::nftables::{
    CmpOp, CtDirection, CtKey, DynsetExpr, DynsetOp, Expr, Family as NftFamily, FibFlags,
    FibResult, LookupExpr, MetaKey, NFTA_MASQ_FLAGS, NFTA_NAT_FAMILY, NFTA_NAT_REG_ADDR_MIN,
    NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_TYPE, NatFlags, NumgenKind, PayloadBase, RawExpr, Register,
    Verdict,
};
use shunt_core::model::Family;
use std::time::Duration;

use super::{
    chains::{Chain, Place},
    sets::{Field, SetName},
};

/// The words of an address.
pub(super) const fn address_words(family: Family) -> usize {
    Field::Address.len(family) / 4
}

/// The body of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct RuleBody {
    /// What it does.
    pub(in super::super) expressions: Vec<Expr>,
    /// What it is for.
    pub(in super::super) comment: &'static str,
    family: Family,
}

impl RuleBody {
    pub(super) const fn new(family: Family, comment: &'static str) -> Self {
        Self { expressions: Vec::new(), comment, family }
    }

    fn then(mut self, expression: impl Into<Expr>) -> Self {
        self.expressions.push(expression.into());
        self
    }

    /// Loads the source address.
    pub(super) fn source(self, at: usize) -> Self {
        let offset = match self.family {
            Family::V4 => 12,
            Family::V6 => 8,
        };
        self.address(at, offset)
    }

    /// Loads the destination address.
    pub(super) fn destination(self, at: usize) -> Self {
        let offset = match self.family {
            Family::V4 => 16,
            Family::V6 => 24,
        };
        self.address(at, offset)
    }

    fn address(self, at: usize, offset: u32) -> Self {
        let len = Field::Address.len(self.family) as u32;
        self.then(Expr::Payload { dreg: word(at), base: PayloadBase::Network, offset, len })
    }

    /// Loads the transport protocol.
    pub(super) fn protocol(self, at: usize) -> Self {
        self.then(Expr::Meta { dreg: word(at), key: MetaKey::L4Proto })
    }

    /// Goes on only if the packet is one of TCP.
    pub(super) fn tcp(self) -> Self {
        const IPPROTO_TCP: u8 = 6;
        self.protocol(0).then(Expr::Cmp { sreg: word(0), op: CmpOp::Eq, data: vec![IPPROTO_TCP] })
    }

    /// Loads the destination port.
    pub(super) fn port(self, at: usize) -> Self {
        self.then(Expr::Payload { dreg: word(at), base: PayloadBase::Transport, offset: 2, len: 2 })
    }

    /// Loads the key of a frontend at word 0; `self.key_words(place)` long.
    pub(super) fn frontend(self, place: Place) -> Self {
        match place {
            Place::Address => {
                let words = address_words(self.family);
                self.destination(0).protocol(words).port(words + 1)
            }
            Place::NodePort => self.protocol(0).port(1),
        }
    }

    /// How many words [`Self::frontend`] loads.
    pub(super) const fn key_words(&self, place: Place) -> usize {
        match place {
            Place::Address => address_words(self.family) + 2,
            Place::NodePort => 2,
        }
    }

    /// Loads a random number below `count`, plus `offset`.
    pub(super) fn random(self, at: usize, count: u32, offset: u32) -> Self {
        let kind = NumgenKind::Random;
        self.then(Expr::Numgen { dreg: word(at), kind, modulus: count, offset })
    }

    /// Goes on only if the key at a word is in a set.
    pub(super) fn within(self, at: usize, set: SetName) -> Self {
        self.then(LookupExpr::new(set.name(), word(at)))
    }

    /// Goes on only if the key at a word is not in a set.
    pub(super) fn outside(self, at: usize, set: SetName) -> Self {
        self.then(LookupExpr::new(set.name(), word(at)).invert())
    }

    /// Loads what a map says of the key at a word; goes on only if it says something.
    pub(super) fn map(self, at: usize, map: SetName, to: usize) -> Self {
        self.then(LookupExpr::new(map.name(), word(at)).dreg(word(to)))
    }

    /// Does what a verdict map says of the key at a word, if anything.
    pub(super) fn verdict_of(self, at: usize, map: SetName) -> Self {
        self.then(LookupExpr::new(map.name(), word(at)).dreg(Register::Verdict))
    }

    /// Goes on in the chain of the frontend, if a map says one: see [`super::sticky`] for why
    /// numbers of the connection are loaded first.
    pub(super) fn chain_of(self, place: Place, map: SetName) -> Self {
        let at = self.key_words(place);
        let kinds = match map {
            SetName::Frontends(_) => SetName::Kinds,
            // The kernel takes no map that leads from a chain back to it.
            _ => SetName::ListKinds,
        };
        self.frontend(place)
            .connection(at + 1)
            .connection(at + 2)
            .map(0, map, at)
            .verdict_of(at + 1, kinds)
    }

    /// Goes on only if the frontend is served. The second set says nothing new; it is there for
    /// who saves what `nft` shows of the rule, which is not that there was a first lookup: read
    /// back, such a rule meets no packet rather than each.
    pub(super) fn served(self, place: Place) -> Self {
        let at = self.key_words(place);
        self.frontend(place)
            .connection(at + 1)
            .connection(at + 2)
            .map(0, SetName::Frontends(place), at)
            .within(at + 1, SetName::AnyKind)
    }

    /// Translates the destination to the address and the port at two words.
    pub(super) fn translate(self, address: usize, port: usize) -> Self {
        let family = match self.family {
            Family::V4 => NFPROTO_IPV4,
            Family::V6 => NFPROTO_IPV6,
        };
        let attributes = [
            (NFTA_NAT_TYPE, NFT_NAT_DNAT),
            (NFTA_NAT_FAMILY, family),
            (NFTA_NAT_REG_ADDR_MIN, word(address).wire()),
            (NFTA_NAT_REG_PROTO_MIN, word(port).wire()),
        ];
        self.then(RawExpr::new("nat", numbers(&attributes)))
    }

    /// Hides the source behind this host, and its port behind a random one.
    pub(super) fn masquerade(self) -> Self {
        let flags = NatFlags::PROTO_RANDOM_FULLY.bits();
        self.then(RawExpr::new("masq", numbers(&[(NFTA_MASQ_FLAGS, flags)])))
    }

    /// Loads one direction's fact about the connection.
    pub(super) fn reply(self, at: usize, key: CtKey) -> Self {
        let direction = CtDirection::Reply;
        self.then(Expr::CtDirectional { dreg: word(at), key, direction })
    }

    /// Loads the number of the connection.
    pub(super) fn connection(self, at: usize) -> Self {
        self.then(Expr::Ct { dreg: word(at), key: CtKey::Id })
    }

    /// Goes on only if some of these bits of a fact about the connection are set, or, if not
    /// `wanted`, only if none is.
    pub(super) fn has_bits(self, key: CtKey, bits: u32, wanted: bool) -> Self {
        let op = if wanted { CmpOp::Neq } else { CmpOp::Eq };
        self.then(Expr::Ct { dreg: word(0), key }).masked(bits).then(Expr::Cmp {
            sreg: word(0),
            op,
            data: vec![0; 4],
        })
    }

    fn masked(self, bits: u32) -> Self {
        let mask = bits.to_ne_bytes().to_vec();
        let xor = vec![0; 4];
        self.then(Expr::Bitwise { sreg: word(0), dreg: word(0), len: 4, mask, xor })
    }

    /// Goes on only if the bit of the mark is set.
    pub(super) fn marked(self, bit: u32) -> Self {
        self.then(Expr::Meta { dreg: word(0), key: MetaKey::Mark }).masked(bit).then(Expr::Cmp {
            sreg: word(0),
            op: CmpOp::Neq,
            data: vec![0; 4],
        })
    }

    /// Sets the bit of the mark, or clears it.
    pub(super) fn mark(self, bit: u32, set: bool) -> Self {
        let xor = if set { bit } else { 0 };
        self.then(Expr::Meta { dreg: word(0), key: MetaKey::Mark })
            .then(Expr::Bitwise {
                sreg: word(0),
                dreg: word(0),
                len: 4,
                mask: (!bit).to_ne_bytes().to_vec(),
                xor: xor.to_ne_bytes().to_vec(),
            })
            .then(Expr::MetaSet { key: MetaKey::Mark, sreg: word(0) })
    }

    /// Goes on only if the source is an address of this host.
    pub(super) fn sent_by_host(self) -> Self {
        const RTN_LOCAL: u32 = 2;
        self.then(Expr::Fib { dreg: word(0), result: FibResult::AddrType, flags: FibFlags::SADDR })
            .then(Expr::Cmp {
                sreg: word(0),
                op: CmpOp::Eq,
                data: RTN_LOCAL.to_ne_bytes().to_vec(),
            })
    }

    /// Goes on only if the name of the interface that the packet came in through is `name`, or
    /// begins with it if `name` is shorter than what an interface's name can be; or if it is not.
    pub(super) fn came_through(self, name: &[u8], wanted: bool) -> Self {
        let op = if wanted { CmpOp::Eq } else { CmpOp::Neq };
        self.then(Expr::Meta { dreg: word(0), key: MetaKey::IifName }).then(Expr::Cmp {
            sreg: word(0),
            op,
            data: name.to_vec(),
        })
    }

    /// Changes an element of a set that packets write.
    pub(super) fn dynamic(
        self,
        op: DynsetOp,
        (key, data): (usize, usize),
        seconds: Option<u32>,
    ) -> Self {
        let mut change = DynsetExpr::new(op, SetName::Affinity.name(), word(key));
        change.sreg_data = Some(word(data));
        change.timeout = seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
        self.then(change)
    }

    /// Goes on in another chain, and comes back.
    pub(super) fn jump(self, chain: Chain) -> Self {
        match chain.to_string().try_into() {
            Ok(name) => self.then(Expr::Verdict(Verdict::JumpTo(name))),
            // No name of ours is empty or too long.
            Err(_) => self,
        }
    }

    /// Goes on in another chain for good.
    pub(super) fn goto(self, chain: Chain) -> Self {
        match chain.to_string().try_into() {
            Ok(name) => self.then(Expr::Verdict(Verdict::GotoTo(name))),
            // As above.
            Err(_) => self,
        }
    }

    /// Drops the packet.
    pub(super) fn drop(self) -> Self {
        self.then(Expr::Verdict(Verdict::Drop))
    }

    /// Refuses the packet.
    pub(super) fn reject(self, reject_type: u32, icmp_code: u8) -> Self {
        self.then(Expr::Reject { reject_type, icmp_code })
    }
}

/// `NFT_NAT_DNAT`.
const NFT_NAT_DNAT: u32 = 1;
const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;

/// Attributes that are numbers. nlink has types for these expressions, but makes them only from
/// values, not from registers.
fn numbers(attributes: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 * attributes.len());
    for (kind, value) in attributes {
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_be_bytes());
    }
    bytes
}

/// The register that begins at a word.
fn word(index: usize) -> Register {
    // There are 16 words, and no rule of ours uses a later one.
    Register::word(index).unwrap_or(Register::R0)
}

/// The family in the terms of nftables.
pub(in super::super) const fn nft_family(family: Family) -> NftFamily {
    match family {
        Family::V4 => NftFamily::Ip,
        Family::V6 => NftFamily::Ip6,
    }
}
