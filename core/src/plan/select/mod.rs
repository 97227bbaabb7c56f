//! Which endpoints serve: sections 2 and 3 of service-semantics.

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, net::SocketAddr, sync::Arc};

use super::{Endpoint, EndpointLists, text_order::TextOrder};
use crate::model::{Cluster, EndpointSlice, Family, PortSpec, SliceEndpoint, SlicePort};

/// Where this node is, for what "local" and "in this zone" mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locality<'a> {
    node_name: &'a str,
    zone: Option<&'a str>,
}

impl<'a> Locality<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let zone = cluster.node().and_then(|node| node.zone.as_deref());
        Self { node_name: cluster.node_name(), zone }
    }
}

/// The endpoints of a ServicePort, with the lists that they are in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) has_any: bool,
}

/// Selects the endpoints of `port` in one family. `slices` are sorted by name.
pub(super) fn select(
    slices: &[Arc<EndpointSlice>],
    port: &PortSpec,
    family: Family,
    here: Locality<'_>,
    lists: EndpointLists,
) -> Selection {
    let candidates = candidates(slices, port, family, here);
    let ready = || candidates.iter().filter(|candidate| candidate.is_ready());
    let topology = Topology::judge(ready().map(|candidate| candidate.found), here);
    // With a hint for everyone and one for here, a topology never empties the list of the ready.
    let cluster_ready = ready().next().is_some();
    let local_ready = ready().any(|candidate| candidate.local);
    let in_cluster = |candidate: &Candidate<'_>| match cluster_ready {
        true => candidate.is_ready() && topology.keeps(candidate.found, here),
        false => candidate.is_serving_terminating(),
    };
    let in_local = |candidate: &Candidate<'_>| {
        candidate.local
            && if local_ready { candidate.is_ready() } else { candidate.is_serving_terminating() }
    };
    let mut endpoints = Vec::with_capacity(candidates.len());
    let shown = candidates
        .iter()
        .filter(|candidate| candidate.is_ready() || candidate.found.conditions.serving);
    endpoints.extend(shown.map(|candidate| Endpoint {
        address: candidate.address,
        conditions: candidate.found.conditions,
        local: candidate.local,
        in_cluster: lists.cluster && in_cluster(candidate),
        in_local: lists.local && in_local(candidate),
        node_name: candidate.found.node_name.clone(),
        zone: candidate.found.zone.clone(),
        weight: 1,
    }));
    let has_any = endpoints.iter().any(|endpoint: &Endpoint| endpoint.in_cluster)
        || (lists.local && candidates.iter().any(Candidate::is_usable));
    Selection { endpoints, has_any }
}

/// An endpoint of a slice with one of the slice's ports.
#[derive(Debug)]
struct Candidate<'a> {
    place: TextOrder,
    address: SocketAddr,
    local: bool,
    found: &'a SliceEndpoint,
}

impl Candidate<'_> {
    const fn is_ready(&self) -> bool {
        self.found.conditions.ready
    }

    const fn is_serving_terminating(&self) -> bool {
        self.found.conditions.serving && self.found.conditions.terminating
    }

    const fn is_usable(&self) -> bool {
        self.is_ready() || self.is_serving_terminating()
    }
}

/// What the slices offer for the port, in text order, each address once.
///
/// Of several instances of an address a local one wins. Then one that serves wins, because an
/// address that a new pod took over from an ended one may be in two slices for a while; then the
/// first by the slice's name.
fn candidates<'a>(
    slices: &'a [Arc<EndpointSlice>],
    port: &PortSpec,
    family: Family,
    here: Locality<'_>,
) -> Vec<Candidate<'a>> {
    let is_ours = |ours: &&SlicePort| joins(ours, port);
    let of_family = || slices.iter().filter(|slice| slice.family == family);
    let offers =
        |slice: &EndpointSlice| slice.endpoints.len() * slice.ports.iter().filter(is_ours).count();
    let mut candidates = Vec::with_capacity(of_family().map(|slice| offers(slice)).sum());
    for slice in of_family() {
        for number in slice.ports.iter().filter(is_ours).map(|ours| ours.port.get()) {
            let found = slice.endpoints.iter();
            let found = found.filter(|found| Family::of(found.address) == family);
            candidates.extend(found.map(|found| candidate(found, number, here)));
        }
    }
    // The sort is stable, so the slices' order decides last.
    candidates.sort_by(|one, other| {
        let rank = |candidate: &Candidate<'_>| {
            Reverse((candidate.local, candidate.is_ready(), candidate.found.conditions.serving))
        };
        one.place.cmp(&other.place).then_with(|| rank(one).cmp(&rank(other)))
    });
    candidates.dedup_by(|later, first| later.place == first.place);
    candidates
}

/// A slice's port joins a Service's by name and protocol; `targetPort` is never read.
fn joins(ours: &SlicePort, port: &PortSpec) -> bool {
    ours.protocol == port.protocol && ours.name == port.name
}

fn candidate<'a>(found: &'a SliceEndpoint, port: u16, here: Locality<'_>) -> Candidate<'a> {
    let address = SocketAddr::new(found.address, port);
    let local = found.node_name.as_deref() == Some(here.node_name);
    Candidate { place: TextOrder::of(address), address, local, found }
}

/// Which ready endpoints the hints keep in the cluster list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    /// Those hinted for this node.
    Node,
    /// Those hinted for this node's zone.
    Zone,
    /// All.
    Everywhere,
}

impl Topology {
    /// A hint counts only if every ready endpoint has one of its kind and one of them is for here.
    fn judge<'a>(
        ready: impl Iterator<Item = &'a SliceEndpoint> + Clone,
        here: Locality<'_>,
    ) -> Self {
        let every = |has_hint: fn(&SliceEndpoint) -> bool| ready.clone().all(has_hint);
        let one = |kept: Self| ready.clone().any(|found| kept.keeps(found, here));
        if every(|found| !found.hint_nodes().is_empty()) && one(Self::Node) {
            Self::Node
        } else if every(|found| !found.hint_zones().is_empty()) && one(Self::Zone) {
            Self::Zone
        } else {
            Self::Everywhere
        }
    }

    fn keeps(self, found: &SliceEndpoint, here: Locality<'_>) -> bool {
        match self {
            Self::Node => found.hint_nodes().iter().any(|node| **node == *here.node_name),
            Self::Zone => {
                here.zone.is_some_and(|zone| found.hint_zones().iter().any(|hint| **hint == *zone))
            }
            Self::Everywhere => true,
        }
    }
}
