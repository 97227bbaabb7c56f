//! Which flows have to go. Pure.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use shunt_core::{
    model::Family,
    plan::{Frontend, ServicePort},
};

/// A UDP flow as the kernel tracks it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    /// Where its first packet came from.
    pub(super) client: SocketAddr,
    /// Where its first packet was sent to: the original destination.
    pub(super) dialled: SocketAddr,
    /// Who answers: the source of the reply direction.
    pub(super) answering: SocketAddr,
    /// Whether its destination was translated.
    pub(super) is_translated: bool,
    /// The zone, 0 for the default one.
    pub(super) zone: u16,
    /// The kernel's number of the flow, so that a new one with the same addresses is not meant.
    pub(super) id: Option<u32>,
}

/// The endpoints that serve; a flow to one of them stays.
pub(super) type Serving = Arc<HashSet<SocketAddr>>;

/// The endpoints of a ServicePort to which flows may go on. Neither policy nor topology matters:
/// a change of those moves no flow, as it moves no TCP connection.
pub(super) fn serving(port: &ServicePort) -> Serving {
    let serving = port.endpoints.iter().filter(|endpoint| endpoint.conditions.serving);
    Arc::new(serving.map(|endpoint| endpoint.address).collect())
}

/// The frontends of ServicePorts that changed, each with the endpoints that serve there now.
#[derive(Clone, Debug, Default)]
pub(super) struct Affected {
    addresses: HashMap<SocketAddr, Serving>,
    node_ports: HashMap<(Family, u16), Serving>,
}

impl Affected {
    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.node_ports.is_empty()
    }

    /// From now on just these endpoints serve a frontend; what was said of it before is void.
    pub(super) fn insert(&mut self, family: Family, frontend: &Frontend, serving: &Serving) {
        let port = frontend.port.get();
        match frontend.kind.address() {
            Some(address) => {
                self.addresses.insert(SocketAddr::new(address, port), Arc::clone(serving))
            }
            None => self.node_ports.insert((family, port), Arc::clone(serving)),
        };
    }

    /// What `newer` says goes before what was said here.
    pub(super) fn update(&mut self, newer: Self) {
        self.addresses.extend(newer.addresses);
        self.node_ports.extend(newer.node_ports);
    }

    /// Whether a flow has to go; `None` if it is at none of these frontends.
    ///
    /// `node` are the addresses that answer NodePorts, `taken` says whether an address and port is
    /// a frontend of its own: that goes before a NodePort, changed or not.
    pub(super) fn is_stale(
        &self,
        flow: &Flow,
        node: &BTreeSet<IpAddr>,
        taken: impl Fn(SocketAddr) -> bool,
    ) -> Option<bool> {
        // An untranslated flow of another zone was seen by somebody else's tracking, before or
        // after ours, and tells nothing about us.
        if flow.zone != 0 && !flow.is_translated {
            return None;
        }
        let at_node_port = || {
            let is_here = node.contains(&flow.dialled.ip()) && !taken(flow.dialled);
            let place = (Family::of(flow.dialled.ip()), flow.dialled.port());
            self.node_ports.get(&place).filter(|_| is_here)
        };
        let serving = self.addresses.get(&flow.dialled).or_else(at_node_port);
        serving.map(|serving| !serving.contains(&flow.answering))
    }

    /// What to ask the kernel for in a family; `None` if nothing of it is affected.
    ///
    /// The kernel walks through all of its flows for each question and gives out what matches, so
    /// one question for all, as narrow as all allow, is cheaper than one for each frontend.
    pub(super) fn question(&self, family: Family) -> Option<Question> {
        let of_family = |address: &&SocketAddr| Family::of(address.ip()) == family;
        let exact: Vec<&SocketAddr> = self.addresses.keys().filter(of_family).collect();
        let mut node_ports = self.node_ports.keys().filter(|(of, _)| *of == family).peekable();
        let is_anywhere = node_ports.peek().is_some();
        let ports: BTreeSet<u16> =
            node_ports.map(|(_, port)| *port).chain(exact.iter().map(|at| at.port())).collect();
        let addresses: BTreeSet<IpAddr> = exact.iter().map(|at| at.ip()).collect();
        (!ports.is_empty()).then(|| Question {
            family,
            port: only(&ports),
            address: only(&addresses).filter(|_| !is_anywhere),
        })
    }
}

/// A dump of the UDP flows of one family, filtered in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) family: Family,
    /// The port that was dialled, if there is one for all.
    pub(super) port: Option<u16>,
    /// The address that was dialled, if there is one for all.
    pub(super) address: Option<IpAddr>,
}

fn only<T: Copy + Ord>(set: &BTreeSet<T>) -> Option<T> {
    set.first().copied().filter(|_| set.len() == 1)
}
