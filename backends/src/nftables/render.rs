//! From a ServicePort to its elements: service-semantics sections 3 to 5.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use shunt_core::{
    model::{Family, TrafficPolicy},
    plan::{Frontend, FrontendKind, ServicePort, ServicePortKey},
};

use super::{
    data::{Bytes, Data, Element, Fields},
    ruleset::{Chain, List, Place, SetName},
};

/// A ServicePort, and what the agent chose for it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// What is desired.
    pub(super) port: Arc<ServicePort>,
    /// Its number, 0 for none: only those with affinity have one.
    pub(super) id: u32,
    /// The endpoints of its cluster list, by slot.
    pub(super) cluster: Box<[SocketAddr]>,
    /// The endpoints of its local list, by slot.
    pub(super) local: Box<[SocketAddr]>,
}

impl Record {
    /// The endpoints of a list, by slot.
    pub(super) const fn list(&self, list: List) -> &[SocketAddr] {
        match list {
            List::Cluster => &self.cluster,
            List::Local => &self.local,
        }
    }

    /// Whether its load-balancer VIPs admit only some sources.
    pub(super) fn is_ranged(&self) -> bool {
        !self.port.source_ranges.is_empty()
    }
}

/// What follows the name beside a load-balancer VIP: packets meet the rules of an externalIP there.
const BALANCER: &str = " load-balancer";

/// The name of the ServicePort in the comment of an element.
pub(super) fn owner(comment: &str) -> &str {
    comment.strip_suffix(BALANCER).unwrap_or(comment)
}

/// Whether the comment of an element says that it is about a load-balancer VIP.
pub(super) fn is_balancer(comment: &str) -> bool {
    comment.ends_with(BALANCER)
}

/// By what a frontend is found, and its key in those maps.
pub(super) fn frontend_key(key: &ServicePortKey, frontend: &Frontend) -> (Place, Bytes) {
    let port = frontend.port.get();
    match frontend.kind.address() {
        Some(address) => {
            let fields = Fields::new().address(address).protocol(key.protocol).port(port);
            (Place::Address, fields.done())
        }
        None => (Place::NodePort, Fields::new().protocol(key.protocol).port(port).done()),
    }
}

/// The elements of a ServicePort. `primary` are the Node's primary addresses.
pub(super) fn render(
    key: &ServicePortKey,
    record: &Record,
    primary: &BTreeSet<IpAddr>,
) -> Vec<Element> {
    let mut rendering = Rendering {
        key,
        record,
        comment: key.to_string().into(),
        sticky: [false; 2],
        elements: Vec::with_capacity(1 + record.port.endpoints.len()),
    };
    for frontend in &record.port.frontends {
        rendering.frontend(frontend);
        if matches!(frontend.kind, FrontendKind::LoadBalancerIp(_)) && record.is_ranged() {
            rendering.ranges(frontend, primary);
        }
    }
    for list in List::ALL {
        if rendering.is_sticky(list) {
            rendering.sticky_list(list);
        }
    }
    rendering.elements
}

/// Addresses of local endpoints that serve: what may dial itself.
pub(super) fn hairpins(port: &ServicePort) -> impl Iterator<Item = IpAddr> {
    let serves = |endpoint: &&shunt_core::plan::Endpoint| {
        endpoint.local && (endpoint.in_cluster || endpoint.in_local)
    };
    port.endpoints.iter().filter(serves).map(|endpoint| endpoint.address.ip())
}

struct Rendering<'a> {
    key: &'a ServicePortKey,
    record: &'a Record,
    comment: Arc<str>,
    /// Which of the lists are to be there for affinity.
    sticky: [bool; 2],
    elements: Vec<Element>,
}

impl Rendering<'_> {
    fn put(&mut self, set: SetName, key: Bytes, data: Data) {
        let comment = Some(Arc::clone(&self.comment));
        self.elements.push(Element { set, key, data, comment });
    }

    /// As `put`; beside the name stands what packets need not know.
    fn put_frontend(&mut self, set: SetName, key: Bytes, data: Data, frontend: &Frontend) {
        let comment = match frontend.kind {
            FrontendKind::LoadBalancerIp(_) => format!("{}{BALANCER}", self.comment).into(),
            _ => Arc::clone(&self.comment),
        };
        self.elements.push(Element { set, key, data, comment: Some(comment) });
    }

    fn frontend(&mut self, frontend: &Frontend) {
        let (place, key) = frontend_key(self.key, frontend);
        let port = Arc::clone(&self.record.port);
        let ranged =
            matches!(frontend.kind, FrontendKind::LoadBalancerIp(_)) && self.record.is_ranged();
        let has = |list| !self.record.list(list).is_empty();
        let (chain, is_whole) = if frontend.kind.is_internal() {
            let list = match port.internal_policy {
                TrafficPolicy::Local => List::Local,
                TrafficPolicy::Cluster => List::Cluster,
            };
            (has(list).then(|| self.serve(place, &key, list)), has(list))
        } else if port.external_policy == TrafficPolicy::Local {
            let chain = if ranged { Chain::RangedLocal } else { Chain::ExternalLocal(place) };
            let lists = List::ALL.map(|list| has(list) && self.serve_later(place, &key, list));
            (lists.contains(&true).then_some(chain), lists == [true, true])
        } else {
            let chain = if ranged { Chain::Ranged } else { Chain::External(place) };
            let served = has(List::Cluster) && self.serve_later(place, &key, List::Cluster);
            (served.then_some(chain), served)
        };
        if let Some(chain) = chain {
            self.put_frontend(SetName::Frontends(place), key.clone(), Data::Goto(chain), frontend);
        }
        if !is_whole {
            let data = match (port.has_any, ranged) {
                (true, _) => Data::Drop,
                (false, true) => Data::Goto(Chain::RangedReject),
                (false, false) => Data::Goto(Chain::Reject),
            };
            self.put_frontend(SetName::Unserved(place), key, data, frontend);
        }
    }

    /// Puts what a frontend needs to be served from a list that is not empty, and says by which
    /// chain it is.
    fn serve(&mut self, place: Place, key: &Bytes, list: List) -> Chain {
        let record = self.record;
        let endpoints = record.list(list);
        let count = endpoints.len() as u32;
        if let Some(seconds) = record.port.affinity_seconds {
            if self.sticky == [false; 2] || !self.has_id(place, key) {
                let id = Fields::new().protocol(self.key.protocol).number(record.id).done();
                self.put(SetName::Ids(place), key.clone(), Data::Value(id));
            }
            let [cluster, local] = &mut self.sticky;
            match list {
                List::Cluster => *cluster = true,
                List::Local => *local = true,
            }
            return Chain::Sticky { place, list, seconds, count };
        }
        for (slot, endpoint) in (list.first_slot()..).zip(endpoints) {
            let key = Fields::new().then(key).number(slot).done();
            let value = Fields::new().address(endpoint.ip()).port(endpoint.port()).done();
            self.put(SetName::Endpoints(place), key, Data::Value(value));
        }
        Chain::Choose { place, list, count }
    }

    fn serve_later(&mut self, place: Place, key: &Bytes, list: List) -> bool {
        let chain = self.serve(place, key, list);
        let lists = match list {
            List::Cluster => SetName::ClusterLists(place),
            List::Local => SetName::LocalLists(place),
        };
        self.put(lists, key.clone(), Data::Goto(chain));
        true
    }

    fn has_id(&self, place: Place, key: &Bytes) -> bool {
        let ids = SetName::Ids(place);
        self.elements.iter().any(|element| element.set == ids && element.key == *key)
    }

    const fn is_sticky(&self, list: List) -> bool {
        let [cluster, local] = self.sticky;
        match list {
            List::Cluster => cluster,
            List::Local => local,
        }
    }

    fn sticky_list(&mut self, list: List) {
        let record = self.record;
        let members = match list {
            List::Cluster => SetName::ClusterMembers,
            List::Local => SetName::LocalMembers,
        };
        for (slot, endpoint) in (list.first_slot()..).zip(record.list(list)) {
            let key = Fields::new().number(record.id).number(slot).done();
            let fields = Fields::new().number(record.id);
            let member = fields.address(endpoint.ip()).port(endpoint.port()).done();
            let value = Fields::new().protocol(self.key.protocol).then(&member).done();
            self.put(SetName::StickyEndpoints, key, Data::Value(value));
            self.put(members, member, Data::Member);
        }
    }

    /// Puts the sources that a VIP admits.
    fn ranges(&mut self, frontend: &Frontend, primary: &BTreeSet<IpAddr>) {
        let port = Arc::clone(&self.record.port);
        let mut ranges = port.source_ranges.to_vec();
        if ranges.iter().any(|range| primary.iter().any(|address| range.contains(address))) {
            let vips = port.frontends.iter().filter_map(|frontend| match frontend.kind {
                FrontendKind::LoadBalancerIp(address) => Some(IpNet::from(address)),
                _ => None,
            });
            ranges.extend(vips);
        }
        let (_, tuple) = frontend_key(self.key, frontend);
        for range in IpNet::aggregate(&ranges) {
            let first = Fields::new().then(&tuple).address(range.network()).done();
            let last = Fields::new().then(&tuple).address(range.broadcast()).done();
            self.put(SetName::Allowed, first, Data::Until(last));
        }
    }
}

/// The elements of an interval set of addresses.
pub(super) fn ranges(
    set: SetName,
    family: Family,
    ranges: impl Iterator<Item = IpNet>,
) -> Vec<Element> {
    let own = ranges.filter(|range| Family::of(range.network()) == family);
    let own: Vec<IpNet> = own.collect();
    let element = |range: IpNet| Element {
        set,
        key: Fields::new().address(range.network()).done(),
        data: Data::Until(Fields::new().address(range.broadcast()).done()),
        comment: None,
    };
    IpNet::aggregate(&own).into_iter().map(element).collect()
}

/// A member of a set of addresses.
pub(super) fn address(set: SetName, address: IpAddr) -> Element {
    let key = Fields::new().address(address).done();
    Element { set, key, data: Data::Member, comment: None }
}

/// An endpoint that may dial itself.
pub(super) fn hairpin(address: IpAddr) -> Element {
    let key = Fields::new().address(address).address(address).done();
    Element { set: SetName::Hairpin, key, data: Data::Member, comment: None }
}
