//! Affinity: a client gets the endpoint that it got before.
//!
//! What a map says here is the key of the next lookup. `nft list` of every version up to 1.1 goes
//! wrong over that, and loops or aborts: it knows no length of what a map says. So each register
//! that a map is about to write is loaded with something of the same length first, and the first
//! one is loaded again afterwards. `nft` then shows what was loaded in place of what the map said:
//! `ct id` stands for the number of the ServicePort, `ct reply saddr` and `ct reply proto-src` for
//! the endpoint. The comments say so, and `shunt get rules` says it in words.

use nlink::netlink::nftables::{CtKey, DynsetOp};
use shunt_core::model::Family;

use super::{
    chains::{List, Place},
    expressions::{RuleBody, address_words},
    sets::SetName,
};

/// Where things are, in words: what the last map said begins at word 0.
#[derive(Clone, Copy)]
struct Layout {
    family: Family,
}

impl Layout {
    /// Protocol, number, address and port, as `sticky-endpoints` and `affinity` say them.
    const PROTOCOL: usize = 0;
    const NUMBER: usize = 1;
    const ADDRESS: usize = 2;

    const fn port(self) -> usize {
        Self::ADDRESS + address_words(self.family)
    }

    /// The number of the ServicePort, as `ids` says it behind the protocol.
    const fn id(self) -> usize {
        self.port() + 1
    }

    /// The client, or a slot: what follows the number in a key.
    const fn behind_id(self) -> usize {
        self.id() + 1
    }
}

/// The rules of a chain for ServicePorts with affinity.
pub(super) fn sticky(
    family: Family,
    place: Place,
    list: List,
    seconds: u32,
    count: u32,
) -> Vec<RuleBody> {
    let layout = Layout { family };
    let members = match list {
        List::Cluster => SetName::ClusterMembers,
        List::Local => SetName::LocalMembers,
    };
    let random = (count, list.first_slot());
    let id = layout.id();
    let mut rules = vec![
        identified(
            family,
            place,
            "remembered, and still in the list; ct id = number, ct reply = endpoint",
        )
        .source(layout.behind_id())
        .endpoint_of(layout, id, SetName::Affinity)
        .within(Layout::NUMBER, members)
        .dynamic(DynsetOp::Update, (id, 0), Some(seconds))
        .translate(Layout::ADDRESS, layout.port()),
        identified(family, place, "no longer in the list: forgotten")
            .source(layout.behind_id())
            .endpoint_of(layout, id, SetName::Affinity)
            .dynamic(DynsetOp::Delete, (id, 0), None),
        identified(
            family,
            place,
            "chosen, remembered, and read back: another packet may have been first",
        )
        .random(layout.behind_id(), random.0, random.1)
        .endpoint_of(layout, id, SetName::StickyEndpoints)
        .source(layout.behind_id())
        .dynamic(DynsetOp::Add, (id, 0), Some(seconds))
        .endpoint_of(layout, id, SetName::Affinity)
        .translate(Layout::ADDRESS, layout.port()),
        identified(family, place, "chosen; there is no room to remember it")
            .random(layout.behind_id(), random.0, random.1)
            .endpoint_of(layout, id, SetName::StickyEndpoints)
            .translate(Layout::ADDRESS, layout.port()),
    ];
    // A packet may find this chain just before its frontend changes hands, and then the number of
    // the new owner, which has fewer endpoints, or none in this list.
    let other = match list {
        List::Cluster => List::Local,
        List::Local => List::Cluster,
    };
    rules.extend([list, other].map(|list| {
        identified(family, place, "the number is newer than the kind: the first of what there is")
            .random(layout.behind_id(), 1, list.first_slot())
            .endpoint_of(layout, id, SetName::StickyEndpoints)
            .translate(Layout::ADDRESS, layout.port())
    }));
    rules
}

/// A rule that has the number of the ServicePort at [`Layout::id`].
fn identified(family: Family, place: Place, comment: &'static str) -> RuleBody {
    let layout = Layout { family };
    RuleBody::new(family, comment).frontend(place).connection(layout.id()).map(
        0,
        SetName::Ids(place),
        layout.id() - 1,
    )
}

impl RuleBody {
    /// Loads what a map says of a number and what follows it: protocol, number and endpoint.
    fn endpoint_of(self, layout: Layout, key: usize, map: SetName) -> Self {
        let address = match layout.family {
            Family::V4 => CtKey::SrcIp,
            Family::V6 => CtKey::SrcIp6,
        };
        self.connection(Layout::NUMBER)
            .reply(Layout::ADDRESS, address)
            .reply(layout.port(), CtKey::ProtoSrc)
            .map(key, map, Layout::PROTOCOL)
            // The same as what the map said: it is part of the frontend.
            .protocol(Layout::PROTOCOL)
    }
}
