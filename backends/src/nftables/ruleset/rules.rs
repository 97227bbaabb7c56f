//! The rules of each chain: service-semantics section 4, in the order of the packets.

use nlink::netlink::nftables::CtKey;
use shunt_core::model::Family;

use super::{
    chains::{Chain, Hook, List, Place},
    expressions::{RuleBody, address_words},
    reject::{refuse, refuse_tcp},
    sets::SetName,
    sticky::sticky,
};

/// `ct state new`.
const NEW: u32 = 8;
/// `ct status dnat`.
const TRANSLATED: u32 = 1 << 5;

/// What the rules depend on besides the family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Shape {
    /// The family.
    pub(in super::super) family: Family,
    /// Whether everything that dials a ClusterIP is masqueraded.
    pub(in super::super) masquerade_all: bool,
    /// The bit of the mark, as a mask.
    pub(in super::super) mark: u32,
    /// How a local pod is recognised, if at all.
    pub(in super::super) local_pod: Option<Source>,
}

/// How a local pod is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Source {
    /// Its address is in `local-pods`.
    Address,
    /// Its packets come in through this interface: the name as the kernel compares it, whole names
    /// with the zero behind them.
    Interface(Vec<u8>),
}

impl Shape {
    fn rule(&self, comment: &'static str) -> RuleBody {
        RuleBody::new(self.family, comment)
    }

    /// Goes on only if the packet is a local pod's, or only if it is not.
    fn is_local_pod(&self, body: RuleBody, wanted: bool) -> RuleBody {
        match &self.local_pod {
            None => body,
            Some(Source::Address) if wanted => body.source(0).within(0, SetName::LocalPods),
            Some(Source::Address) => body.source(0).outside(0, SetName::LocalPods),
            Some(Source::Interface(name)) => body.came_through(name, wanted),
        }
    }
}

/// The rules of a chain.
pub(in super::super) fn rules(shape: &Shape, chain: Chain) -> Vec<RuleBody> {
    match chain {
        Chain::Base(hook) => base(shape, hook),
        Chain::Services => services(shape),
        Chain::Untranslated => untranslated(shape),
        Chain::Reject => {
            vec![refuse_tcp(shape.rule("TCP by a reset")), refuse(shape.rule(""), shape.family)]
        }
        Chain::RangedReject => {
            ranged(shape, Chain::Reject, "no endpoint; only sources in its ranges learn that")
        }
        Chain::External(place) => external(shape, place),
        Chain::ExternalLocal(place) => external_local(shape, place),
        Chain::Ranged => {
            ranged(shape, Chain::External(Place::Address), "only from sources in its ranges")
        }
        Chain::RangedLocal => {
            ranged(shape, Chain::ExternalLocal(Place::Address), "only from sources in its ranges")
        }
        Chain::Choose { place, list, count } => vec![choose(shape, place, list, count)],
        Chain::Sticky { place, list, seconds, count } => {
            sticky(shape.family, place, list, seconds, count)
        }
    }
}

fn base(shape: &Shape, hook: Hook) -> Vec<RuleBody> {
    match hook {
        Hook::NatPrerouting | Hook::NatOutput => vec![shape.rule("").jump(Chain::Services)],
        Hook::NatPostrouting => vec![
            shape
                .rule("asked for by a rule above, which set the bit")
                .marked(shape.mark)
                .mark(shape.mark, false)
                .masquerade(),
            shape
                .rule("an endpoint that reached itself")
                .has_bits(CtKey::Status, TRANSLATED, true)
                .source(0)
                .destination(address_words(shape.family))
                .within(0, SetName::Hairpin)
                .masquerade(),
        ],
        Hook::FilterInput | Hook::FilterForward | Hook::FilterOutput => vec![
            shape
                .rule("")
                .has_bits(CtKey::State, NEW, true)
                .has_bits(CtKey::Status, TRANSLATED, false)
                .jump(Chain::Untranslated),
        ],
    }
}

fn services(shape: &Shape) -> Vec<RuleBody> {
    let mut rules = Vec::new();
    if shape.masquerade_all || shape.local_pod.is_some() {
        let comment = if shape.masquerade_all {
            "whoever dials a ClusterIP is masqueraded"
        } else {
            "whoever dials a ClusterIP and is no local pod is masqueraded"
        };
        let body = shape.rule(comment).destination(0).within(0, SetName::ClusterIps);
        let body = if shape.masquerade_all { body } else { shape.is_local_pod(body, false) };
        rules.push(body.mark(shape.mark, true));
    }
    let frontends = SetName::Frontends(Place::Address);
    let comment = "ct id = what frontends says of ip daddr . meta l4proto . th dport";
    rules.push(shape.rule(comment).chain_of(Place::Address, frontends));
    let node_ports = SetName::Frontends(Place::NodePort);
    rules.push(
        shape
            .rule("ct id = what node-ports says of meta l4proto . th dport")
            .destination(0)
            .within(0, SetName::NodeAddresses)
            .chain_of(Place::NodePort, node_ports),
    );
    rules
}

fn untranslated(shape: &Shape) -> Vec<RuleBody> {
    let addresses = SetName::Unserved(Place::Address);
    let node_ports = SetName::Unserved(Place::NodePort);
    vec![
        shape.rule("").frontend(Place::Address).verdict_of(0, addresses),
        shape
            .rule("")
            .destination(0)
            .within(0, SetName::NodeAddresses)
            .frontend(Place::NodePort)
            .verdict_of(0, node_ports),
        // It passed the nat chains just before the frontend came, or found a list that was going.
        // Its sender tries again; to let it pass would bind its connection to no translation.
        shape
            .rule("missed its frontend during a change; ct id = what frontends says")
            .served(Place::Address)
            .drop(),
        shape
            .rule("missed its frontend during a change; ct id = what node-ports says")
            .destination(0)
            .within(0, SetName::NodeAddresses)
            .served(Place::NodePort)
            .drop(),
        shape
            .rule("no such port")
            .destination(0)
            .within(0, SetName::ClusterIps)
            .goto(Chain::Reject),
        shape.rule("no such Service").destination(0).within(0, SetName::ServiceCidrs).drop(),
    ]
}

fn served_from(body: RuleBody, place: Place, list: List) -> RuleBody {
    let lists = match list {
        List::Cluster => SetName::ClusterLists(place),
        List::Local => SetName::LocalLists(place),
    };
    body.chain_of(place, lists)
}

fn external(shape: &Shape, place: Place) -> Vec<RuleBody> {
    let body = shape
        .rule("policy Cluster: masqueraded, from any endpoint; ct id = what cluster-lists says")
        .mark(shape.mark, true);
    vec![served_from(body, place, List::Cluster)]
}

fn external_local(shape: &Shape, place: Place) -> Vec<RuleBody> {
    let mut rules = Vec::new();
    if shape.local_pod.is_some() {
        let body = shape.is_local_pod(
            shape.rule("policy Local, but for local pods; ct id = what cluster-lists says"),
            true,
        );
        rules.push(served_from(body, place, List::Cluster));
    }
    let body = shape
        .rule("policy Local, but for this host; ct id = what cluster-lists says")
        .sent_by_host()
        .mark(shape.mark, true);
    rules.push(served_from(body, place, List::Cluster));
    let body =
        shape.rule("policy Local: source kept, from this node; ct id = what local-lists says");
    rules.push(served_from(body, place, List::Local));
    rules
}

fn ranged(shape: &Shape, then: Chain, comment: &'static str) -> Vec<RuleBody> {
    let body = shape.rule(comment).frontend(Place::Address);
    let source = body.key_words(Place::Address);
    vec![body.source(source).within(0, SetName::Allowed).goto(then), shape.rule("").drop()]
}

fn choose(shape: &Shape, place: Place, list: List, count: u32) -> RuleBody {
    let body = shape.rule("").frontend(place);
    let slot = body.key_words(place);
    body.random(slot, count, list.first_slot())
        .map(0, SetName::Endpoints(place), 0)
        .translate(0, address_words(shape.family))
}
