//! The sets and maps of a table.

use shunt_core::model::Family;

use super::chains::Place;

/// A set or map of a table. Where there are two, one for addresses and one for node ports, the key
/// of the first begins with an address, and the key of the second does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) enum SetName {
    /// The chain of each kind.
    Kinds,
    /// The chain of each kind that a first step may lead to.
    ListKinds,
    /// Each kind, without its chain: whether a frontend is served at all.
    AnyKind,
    /// The kind of each frontend.
    Frontends(Place),
    /// The endpoints of each frontend, by slot.
    Endpoints(Place),
    /// The kind of a frontend that is served from the cluster list, after a first step.
    ClusterLists(Place),
    /// The same for the local list.
    LocalLists(Place),
    /// The number of the ServicePort behind a frontend, where it has affinity.
    Ids(Place),
    /// What becomes of a packet that nothing translated.
    Unserved(Place),
    /// The sources that a load-balancer VIP with source ranges admits.
    Allowed,
    /// The endpoints of a ServicePort with affinity, by its number and slot.
    StickyEndpoints,
    /// The cluster list of a ServicePort with affinity.
    ClusterMembers,
    /// The local list of a ServicePort with affinity.
    LocalMembers,
    /// Which client of which ServicePort was given which endpoint.
    Affinity,
    /// The active ClusterIPs.
    ClusterIps,
    /// The known ServiceCIDRs.
    ServiceCidrs,
    /// The CIDRs of local pods.
    LocalPods,
    /// The addresses at which NodePorts are answered.
    NodeAddresses,
    /// Endpoints of this node, twice each: an endpoint that dials itself.
    Hairpin,
}

/// A field of a key or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Field {
    /// An address.
    Address,
    /// A transport protocol.
    Protocol,
    /// A port.
    Port,
    /// A number in the byte order of the machine.
    Number,
}

/// What a map maps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Values {
    /// Nothing: it is a set.
    Members,
    /// Verdicts.
    Verdicts,
    /// Values of these fields.
    Fields(&'static [Field]),
}

impl SetName {
    /// All of them.
    pub(in super::super) const ALL: [Self; 25] = [
        Self::Kinds,
        Self::ListKinds,
        Self::AnyKind,
        Self::Frontends(Place::Address),
        Self::Frontends(Place::NodePort),
        Self::ClusterLists(Place::Address),
        Self::ClusterLists(Place::NodePort),
        Self::LocalLists(Place::Address),
        Self::LocalLists(Place::NodePort),
        Self::Endpoints(Place::Address),
        Self::Endpoints(Place::NodePort),
        Self::Unserved(Place::Address),
        Self::Unserved(Place::NodePort),
        Self::Ids(Place::Address),
        Self::Ids(Place::NodePort),
        Self::StickyEndpoints,
        Self::ClusterMembers,
        Self::LocalMembers,
        Self::Affinity,
        Self::Allowed,
        Self::ClusterIps,
        Self::ServiceCidrs,
        Self::LocalPods,
        Self::NodeAddresses,
        Self::Hairpin,
    ];

    /// The name in the kernel.
    pub(in super::super) const fn name(self) -> &'static str {
        match self {
            Self::Kinds => "kinds",
            Self::ListKinds => "list-kinds",
            Self::AnyKind => "any-kind",
            Self::Frontends(Place::Address) => "frontends",
            Self::Frontends(Place::NodePort) => "node-ports",
            Self::Endpoints(Place::Address) => "endpoints",
            Self::Endpoints(Place::NodePort) => "node-port-endpoints",
            Self::ClusterLists(Place::Address) => "cluster-lists",
            Self::ClusterLists(Place::NodePort) => "node-port-cluster-lists",
            Self::LocalLists(Place::Address) => "local-lists",
            Self::LocalLists(Place::NodePort) => "node-port-local-lists",
            Self::Ids(Place::Address) => "ids",
            Self::Ids(Place::NodePort) => "node-port-ids",
            Self::Unserved(Place::Address) => "unserved",
            Self::Unserved(Place::NodePort) => "unserved-node-ports",
            Self::Allowed => "allowed",
            Self::StickyEndpoints => "sticky-endpoints",
            Self::ClusterMembers => "cluster-members",
            Self::LocalMembers => "local-members",
            Self::Affinity => "affinity",
            Self::ClusterIps => "cluster-ips",
            Self::ServiceCidrs => "service-cidrs",
            Self::LocalPods => "local-pods",
            Self::NodeAddresses => "node-addresses",
            Self::Hairpin => "hairpin",
        }
    }

    /// What it is for, for whoever lists the table.
    pub(in super::super) const fn comment(self) -> &'static str {
        match self {
            Self::Kinds => "kind . number of endpoints -> chain",
            Self::ListKinds => "as kinds, after a first step",
            Self::AnyKind => "the keys of kinds",
            Self::Frontends(_) => "frontend -> protocol . kind . number of endpoints",
            Self::Endpoints(_) => "frontend . slot -> endpoint",
            Self::ClusterLists(_) => "as frontends, after a first step: from the whole cluster",
            Self::LocalLists(_) => "as frontends, after a first step: from this node",
            Self::Ids(_) => {
                "frontend -> protocol . number of the ServicePort, where it has affinity"
            }
            Self::Unserved(_) => "frontends without endpoints",
            Self::Allowed => "sources that load-balancer addresses with source ranges admit",
            Self::StickyEndpoints => {
                "number . slot -> protocol . number . endpoint, for those with affinity"
            }
            Self::ClusterMembers => "number . endpoint: the cluster lists of those with affinity",
            Self::LocalMembers => "number . endpoint: the local lists of those with affinity",
            Self::Affinity => "number . client -> protocol . number . endpoint, written by packets",
            Self::ClusterIps => "active ClusterIPs",
            Self::ServiceCidrs => "where ClusterIPs come from",
            Self::LocalPods => "where pods of this cluster are",
            Self::NodeAddresses => "where node ports are answered",
            Self::Hairpin => "endpoints of this node, as client and as server",
        }
    }

    /// The fields of its keys.
    pub(in super::super) const fn key(self) -> &'static [Field] {
        use Field::{Address, Number, Port, Protocol};
        match self {
            Self::Frontends(place)
            | Self::ClusterLists(place)
            | Self::LocalLists(place)
            | Self::Ids(place)
            | Self::Unserved(place) => match place {
                Place::Address => &[Address, Protocol, Port],
                Place::NodePort => &[Protocol, Port],
            },
            Self::Endpoints(Place::Address) => &[Address, Protocol, Port, Number],
            Self::Endpoints(Place::NodePort) => &[Protocol, Port, Number],
            Self::Allowed => &[Address, Protocol, Port, Address],
            Self::Kinds | Self::ListKinds | Self::AnyKind | Self::StickyEndpoints => {
                &[Number, Number]
            }
            Self::ClusterMembers | Self::LocalMembers => &[Number, Address, Port],
            Self::Affinity => &[Number, Address],
            Self::ClusterIps | Self::ServiceCidrs | Self::LocalPods | Self::NodeAddresses => {
                &[Address]
            }
            Self::Hairpin => &[Address, Address],
        }
    }

    /// What it maps to.
    pub(in super::super) const fn values(self) -> Values {
        use Field::{Address, Number, Port, Protocol};
        match self {
            // The kernel walks through all verdict maps whenever one of them changes, so what there
            // is much of is none.
            Self::Kinds | Self::ListKinds | Self::Unserved(_) => Values::Verdicts,
            Self::Frontends(_) | Self::ClusterLists(_) | Self::LocalLists(_) => {
                Values::Fields(&[Protocol, Number, Number])
            }
            Self::Endpoints(_) => Values::Fields(&[Address, Port]),
            Self::Ids(_) => Values::Fields(&[Protocol, Number]),
            Self::StickyEndpoints | Self::Affinity => {
                Values::Fields(&[Protocol, Number, Address, Port])
            }
            _ => Values::Members,
        }
    }

    /// Whether its elements are ranges.
    pub(in super::super) const fn is_interval(self) -> bool {
        matches!(self, Self::Allowed | Self::ServiceCidrs | Self::LocalPods)
    }

    /// Whether a packet on its way may read it after one that was read earlier said that it can:
    /// what goes from here goes only after a grace period. What decides by itself goes at once: an
    /// old answer would hold on after the Delta is applied. (The lists decide, too, where their
    /// frontend stays: see `Staging::note_empty`.)
    pub(in super::super) const fn is_read_later(self) -> bool {
        matches!(
            self,
            Self::Endpoints(_)
                | Self::ClusterLists(_)
                | Self::LocalLists(_)
                | Self::Ids(_)
                | Self::StickyEndpoints
        )
    }

    /// The set of this name.
    pub(in super::super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }
}

impl Field {
    /// Its length in bytes, without the padding to whole words.
    pub(in super::super) const fn len(self, family: Family) -> usize {
        match (self, family) {
            (Self::Address, Family::V6) => 16,
            (Self::Protocol, _) => 1,
            (Self::Port, _) => 2,
            (Self::Address, Family::V4) | (Self::Number, _) => 4,
        }
    }
}
