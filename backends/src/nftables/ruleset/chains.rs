//! The chains of a table, and their names.

use std::{fmt, str::FromStr};

/// By what a frontend is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) enum Place {
    /// By address, protocol and port.
    Address,
    /// By protocol and port, on every node address.
    NodePort,
}

impl Place {
    /// Both.
    pub(in super::super) const ALL: [Self; 2] = [Self::Address, Self::NodePort];

    const fn bit(self) -> u32 {
        match self {
            Self::Address => 0,
            Self::NodePort => 1 << 24,
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Address => "",
            Self::NodePort => "node-port-",
        }
    }
}

/// From which of the two lists a connection is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) enum List {
    /// The list of the whole cluster.
    Cluster,
    /// The list of this node.
    Local,
}

impl List {
    /// Both.
    pub(in super::super) const ALL: [Self; 2] = [Self::Cluster, Self::Local];

    /// The first slot of the list: one map holds both.
    pub(in super::super) const fn first_slot(self) -> u32 {
        match self {
            Self::Cluster => 0,
            Self::Local => 1 << 20,
        }
    }

    const fn bit(self) -> u32 {
        match self {
            Self::Cluster => 0,
            Self::Local => 1 << 25,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Local => "local",
        }
    }
}

/// A chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) enum Chain {
    /// Where the kernel hands packets in.
    Base(Hook),
    /// Finds the frontend.
    Services,
    /// What becomes of packets that nothing translated.
    Untranslated,
    /// Refuses.
    Reject,
    /// Refuses those whom the source ranges admit, and drops the others.
    RangedReject,
    /// External, policy Cluster: masquerades.
    External(Place),
    /// External, policy Local.
    ExternalLocal(Place),
    /// Looks at the source ranges, then as [`Self::External`].
    Ranged,
    /// Looks at the source ranges, then as [`Self::ExternalLocal`].
    RangedLocal,
    /// Translates to one of `count` endpoints.
    Choose {
        /// By what the frontend is found.
        place: Place,
        /// From which list.
        list: List,
        /// How many endpoints there are.
        count: u32,
    },
    /// Translates to the endpoint that the client had before, or else to one of `count`.
    Sticky {
        /// By what the frontend is found.
        place: Place,
        /// From which list.
        list: List,
        /// For how long a client is remembered.
        seconds: u32,
        /// How many endpoints there are.
        count: u32,
    },
}

/// Where the kernel hands packets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) enum Hook {
    /// What comes in, before routing.
    NatPrerouting,
    /// What a local process sends.
    NatOutput,
    /// What goes out.
    NatPostrouting,
    /// What comes in for this host.
    FilterInput,
    /// What passes through.
    FilterForward,
    /// What a local process sends.
    FilterOutput,
}

impl Hook {
    /// All of them.
    pub(in super::super) const ALL: [Self; 6] = [
        Self::NatPrerouting,
        Self::NatOutput,
        Self::NatPostrouting,
        Self::FilterInput,
        Self::FilterForward,
        Self::FilterOutput,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::NatPrerouting => "nat-prerouting",
            Self::NatOutput => "nat-output",
            Self::NatPostrouting => "nat-postrouting",
            Self::FilterInput => "filter-input",
            Self::FilterForward => "filter-forward",
            Self::FilterOutput => "filter-output",
        }
    }
}

impl Chain {
    /// The chains that are always there, but for the base chains.
    pub(in super::super) const CONSTANT: [Self; 10] = [
        Self::Services,
        Self::Untranslated,
        Self::Reject,
        Self::RangedReject,
        Self::External(Place::Address),
        Self::External(Place::NodePort),
        Self::ExternalLocal(Place::Address),
        Self::ExternalLocal(Place::NodePort),
        Self::Ranged,
        Self::RangedLocal,
    ];

    /// Its kind and its number of endpoints, if frontends lead to it.
    pub(in super::super) const fn kind(self) -> Option<(u32, u32)> {
        Some(match self {
            Self::External(place) => (place.bit() | 0x1000_0000, 0),
            Self::ExternalLocal(place) => (place.bit() | 0x2000_0000, 0),
            Self::Ranged => (0x3000_0000, 0),
            Self::RangedLocal => (0x4000_0000, 0),
            Self::Choose { place, list, count } => (place.bit() | list.bit(), count),
            // Kubernetes allows 86,400 seconds, which is 17 bits.
            Self::Sticky { place, list, seconds, count } => {
                (0x8000_0000 | place.bit() | list.bit() | (seconds & 0x00ff_ffff), count)
            }
            _ => return None,
        })
    }

    /// The chain of a kind and a number of endpoints.
    pub(in super::super) fn of_kind(kind: u32, count: u32) -> Option<Self> {
        let place = Place::ALL.into_iter().find(|place| place.bit() == kind & (1 << 24))?;
        let list = List::ALL.into_iter().find(|list| list.bit() == kind & (1 << 25))?;
        let chain = match kind >> 28 {
            0 => Self::Choose { place, list, count },
            1 => Self::External(place),
            2 => Self::ExternalLocal(place),
            3 => Self::Ranged,
            4 => Self::RangedLocal,
            _ => Self::Sticky { place, list, seconds: kind & 0x00ff_ffff, count },
        };
        (chain.kind() == Some((kind, count))).then_some(chain)
    }

    /// Whether it is there only as long as a ServicePort leads to it.
    pub(in super::super) const fn is_counted(self) -> bool {
        matches!(self, Self::Choose { .. } | Self::Sticky { .. })
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Base(hook) => f.write_str(hook.name()),
            Self::Services => f.write_str("services"),
            Self::Untranslated => f.write_str("untranslated"),
            Self::Reject => f.write_str("reject"),
            Self::RangedReject => f.write_str("ranged-reject"),
            Self::External(place) => write!(f, "{}external", place.prefix()),
            Self::ExternalLocal(place) => write!(f, "{}external-local", place.prefix()),
            Self::Ranged => f.write_str("ranged"),
            Self::RangedLocal => f.write_str("ranged-local"),
            Self::Choose { place, list, count } => {
                write!(f, "{}{}-{count}", place.prefix(), list.name())
            }
            Self::Sticky { place, list, seconds, count } => {
                write!(f, "{}sticky-{}-{seconds}s-{count}", place.prefix(), list.name())
            }
        }
    }
}

/// No chain of ours has that name.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct NotOurs;

impl FromStr for Chain {
    type Err = NotOurs;

    fn from_str(name: &str) -> Result<Self, NotOurs> {
        let base = Hook::ALL.into_iter().map(Self::Base);
        let mut constant = Self::CONSTANT.into_iter().chain(base);
        constant.find(|chain| chain.to_string() == name).or_else(|| counted(name)).ok_or(NotOurs)
    }
}

fn counted(name: &str) -> Option<Chain> {
    let (place, rest) = match name.strip_prefix(Place::NodePort.prefix()) {
        Some(rest) => (Place::NodePort, rest),
        None => (Place::Address, name),
    };
    let mut parts = rest.split('-');
    let mut next = || parts.next();
    let list = |name: &str| List::ALL.into_iter().find(|list| list.name() == name);
    let chain = match next()? {
        "sticky" => Chain::Sticky {
            place,
            list: list(next()?)?,
            seconds: next()?.strip_suffix('s')?.parse().ok()?,
            count: next()?.parse().ok()?,
        },
        other => Chain::Choose { place, list: list(other)?, count: next()?.parse().ok()? },
    };
    (chain.to_string() == name).then_some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let mut all: Vec<Chain> = Chain::CONSTANT.to_vec();
        all.extend(Hook::ALL.map(Chain::Base));
        for place in Place::ALL {
            for list in List::ALL {
                all.push(Chain::Choose { place, list, count: 17 });
                all.push(Chain::Sticky { place, list, seconds: 10_800, count: 3 });
            }
        }
        for chain in all {
            assert_eq!(chain.to_string().parse(), Ok(chain));
            if let Some((kind, count)) = chain.kind() {
                assert_eq!(Chain::of_kind(kind, count), Some(chain));
            }
        }
        for other in ["cluster-", "cluster-03", "cluster-1-2", "sticky-cluster-1-2", "x", ""] {
            assert_eq!(other.parse::<Chain>(), Err(NotOurs), "{other}");
        }
    }
}
