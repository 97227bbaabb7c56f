//! All objects as last seen, by source.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Dirty, EndpointSlice, HostAddress, ModelWarning, Node, ObjectName, Service, ServiceCidr,
    endpoints::SlicesByService,
    store::{Pass, Store, Upserted},
};
use crate::source::{Completeness, Object, ObjectId, SourceName, Update};

/// The cluster as last seen.
///
/// Each object belongs to the source that brought it first. If another source brings it too, that
/// one waits, with a warning, and takes over when the owner's is gone.
#[derive(Debug)]
pub struct Cluster {
    node_name: Arc<str>,
    sources: Vec<Source>,
    /// Boxed, because a table that grows moves what is in it.
    services: Store<Box<Service>>,
    slices: Store<Arc<EndpointSlice>>,
    nodes: Store<Node>,
    service_cidrs: Store<ServiceCidr>,
    host_addresses: Store<HostAddress>,
    slices_by_service: SlicesByService,
    /// Sorted, so that of two interfaces with one address always the same is named.
    interfaces: HashMap<IpAddr, BTreeSet<Arc<str>>>,
}

#[derive(Debug)]
struct Source {
    name: SourceName,
    pass: u32,
    synced: Option<Completeness>,
}

impl Cluster {
    /// An empty cluster, seen from the node called `node_name`.
    #[must_use]
    pub fn new(node_name: Arc<str>) -> Self {
        Self {
            node_name,
            sources: Vec::new(),
            services: Store::default(),
            slices: Store::default(),
            nodes: Store::default(),
            service_cidrs: Store::default(),
            host_addresses: Store::default(),
            slices_by_service: SlicesByService::default(),
            interfaces: HashMap::new(),
        }
    }

    /// Takes in what a source says, and adds to `dirty` what has to be planned anew.
    ///
    /// An upsert that equals what is there dirties nothing.
    pub fn apply(
        &mut self,
        source: &SourceName,
        update: Update,
        dirty: &mut Dirty,
    ) -> Vec<ModelWarning> {
        let pass = self.pass(source);
        match update {
            Update::Reset => self.sources[pass.source as usize].pass += 1,
            Update::Upsert(object) => return self.upsert(pass, object, dirty),
            Update::Remove(id) => self.remove(pass.source, &id, dirty),
            Update::Synced(completeness) => {
                let synced = &mut self.sources[pass.source as usize].synced;
                // What a partial list does not name may be in the part that could not be read. As
                // it removes nothing, what was complete before stays so.
                if completeness == Completeness::Complete {
                    *synced = Some(completeness);
                    self.sweep(pass, dirty);
                } else {
                    synced.get_or_insert(completeness);
                }
            }
        }
        Vec::new()
    }

    /// Whether a list of this source has ended, and whether one was complete.
    #[must_use]
    pub fn synced(&self, source: &SourceName) -> Option<Completeness> {
        self.sources.iter().find(|known| known.name == *source)?.synced
    }

    /// A Service.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(Box::as_ref)
    }

    /// All Services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().map(|service| &**service)
    }

    /// The EndpointSlices of a Service, by name. They may be there before the Service is.
    #[must_use]
    pub fn slices(&self, service: &ObjectName) -> &[Arc<EndpointSlice>] {
        self.slices_by_service.of(service)
    }

    /// The own Node, if a source named it.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.nodes.get(&self.node_name)
    }

    /// The name of the own Node.
    #[must_use]
    pub const fn node_name(&self) -> &Arc<str> {
        &self.node_name
    }

    /// The ServiceCIDRs, in no order.
    pub fn service_cidrs(&self) -> impl Iterator<Item = &ServiceCidr> {
        self.service_cidrs.iter()
    }

    /// The addresses of this host's interfaces, in no order.
    pub fn host_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.interfaces.keys().copied()
    }

    /// The interfaces of this host that carry an address, by name.
    pub fn interfaces(&self, address: IpAddr) -> impl Iterator<Item = &Arc<str>> {
        self.interfaces.get(&address).into_iter().flatten()
    }

    fn pass(&mut self, source: &SourceName) -> Pass {
        let known = self.sources.iter().position(|known| known.name == *source);
        let index = known.unwrap_or_else(|| {
            self.sources.push(Source { name: source.clone(), pass: 0, synced: None });
            self.sources.len() - 1
        });
        Pass { source: index as u32, number: self.sources[index].pass }
    }

    fn upsert(&mut self, pass: Pass, object: Object, dirty: &mut Dirty) -> Vec<ModelWarning> {
        match object {
            Object::Service(service) => {
                let name = service.name.clone();
                let upserted = self.services.upsert(pass, service);
                let id = || ObjectId::Service(name.clone());
                let warnings = self.clash(pass, &upserted, id);
                if let Upserted::Visible(_) = upserted {
                    dirty.changes.services += 1;
                    dirty.services.insert(name);
                }
                warnings
            }
            Object::EndpointSlice(slice) => self.upsert_slice(pass, slice, dirty),
            Object::Node(node) => self.upsert_node(pass, *node, dirty),
            Object::ServiceCidr(cidr) => {
                let name = Arc::clone(&cidr.name);
                let upserted = self.service_cidrs.upsert(pass, *cidr);
                dirty.node |= matches!(upserted, Upserted::Visible(_));
                self.clash(pass, &upserted, || ObjectId::ServiceCidr(name))
            }
            Object::HostAddress(address) => {
                let upserted = self.host_addresses.upsert(pass, (*address).clone());
                if let Upserted::Visible(_) = upserted {
                    self.host_address_changed(&address, dirty);
                }
                self.clash(pass, &upserted, || ObjectId::HostAddress(address))
            }
        }
    }

    fn upsert_slice(
        &mut self,
        pass: Pass,
        slice: Arc<EndpointSlice>,
        dirty: &mut Dirty,
    ) -> Vec<ModelWarning> {
        let upserted = self.slices.upsert(pass, Arc::clone(&slice));
        let mut warnings =
            self.clash(pass, &upserted, || ObjectId::EndpointSlice(slice.name.clone()));
        if let Upserted::Visible(old) = upserted {
            if slice.service.is_none() {
                warnings.push(ModelWarning::SliceWithoutService { slice: slice.name.clone() });
            }
            self.slice_changed(old.as_deref(), Some(&slice), dirty);
        }
        warnings
    }

    fn upsert_node(&mut self, pass: Pass, node: Node, dirty: &mut Dirty) -> Vec<ModelWarning> {
        if node.name != self.node_name {
            return Vec::new();
        }
        let name = Arc::clone(&node.name);
        let upserted = self.nodes.upsert(pass, node);
        let warnings = self.clash(pass, &upserted, || ObjectId::Node(name));
        if let Upserted::Visible(old) = upserted {
            self.node_changed(old.as_ref(), dirty);
        }
        warnings
    }

    fn remove(&mut self, source: u32, id: &ObjectId, dirty: &mut Dirty) {
        match id {
            ObjectId::Service(name) => {
                if self.services.remove(source, name).is_some() {
                    dirty.changes.services += 1;
                    dirty.services.insert(name.clone());
                }
            }
            ObjectId::EndpointSlice(name) => {
                if let Some(old) = self.slices.remove(source, name) {
                    let next = self.slices.get(name).cloned();
                    self.slice_changed(Some(&old), next.as_ref(), dirty);
                }
            }
            ObjectId::Node(name) => {
                if let Some(old) = self.nodes.remove(source, name) {
                    self.node_changed(Some(&old), dirty);
                }
            }
            ObjectId::ServiceCidr(name) => {
                dirty.node |= self.service_cidrs.remove(source, name).is_some();
            }
            ObjectId::HostAddress(address) => {
                if self.host_addresses.remove(source, address).is_some() {
                    self.host_address_changed(address, dirty);
                }
            }
        }
    }

    /// Removes what the source has not named in this pass.
    fn sweep(&mut self, pass: Pass, dirty: &mut Dirty) {
        let services = self.services.stale(pass).into_iter().map(ObjectId::Service);
        let slices = self.slices.stale(pass).into_iter().map(ObjectId::EndpointSlice);
        let nodes = self.nodes.stale(pass).into_iter().map(ObjectId::Node);
        let cidrs = self.service_cidrs.stale(pass).into_iter().map(ObjectId::ServiceCidr);
        let addresses = self.host_addresses.stale(pass).into_iter().map(Box::new);
        let addresses = addresses.map(ObjectId::HostAddress);
        let stale: Vec<_> =
            services.chain(slices).chain(nodes).chain(cidrs).chain(addresses).collect();
        for id in &stale {
            self.remove(pass.source, id, dirty);
        }
    }

    /// A slice that now names another Service touches both.
    fn slice_changed(
        &mut self,
        old: Option<&EndpointSlice>,
        new: Option<&Arc<EndpointSlice>>,
        dirty: &mut Dirty,
    ) {
        dirty.changes.slices += 1;
        if let Some(old) = old
            && let Some(service) = &old.service
        {
            self.slices_by_service.remove(service, old);
            dirty.services.insert(service.clone());
        }
        if let Some(new) = new
            && let Some(service) = &new.service
        {
            self.slices_by_service.insert(service, new);
            dirty.services.insert(service.clone());
        }
    }

    fn node_changed(&self, old: Option<&Node>, dirty: &mut Dirty) {
        let new = self.node();
        if old.map(|node| &node.zone) != new.map(|node| &node.zone) {
            dirty.services.extend(self.slices_by_service.zone_hinted().cloned());
        }
        // Taints and deletion concern the health of the node and nothing that is planned.
        let planned =
            |node: Option<&Node>| node.map(|node| (node.addresses.clone(), node.pod_cidrs.clone()));
        dirty.node |= planned(old) != planned(new);
    }

    fn host_address_changed(&mut self, address: &HostAddress, dirty: &mut Dirty) {
        let interfaces = self.interfaces.entry(address.address).or_default();
        if self.host_addresses.get(address).is_some() {
            interfaces.insert(Arc::clone(&address.interface));
        } else {
            interfaces.remove(&address.interface);
        }
        if interfaces.is_empty() {
            self.interfaces.remove(&address.address);
        }
        dirty.host_addresses.insert(address.address);
        dirty.node = true;
    }

    fn clash<V>(
        &self,
        pass: Pass,
        upserted: &Upserted<V>,
        object: impl FnOnce() -> ObjectId,
    ) -> Vec<ModelWarning> {
        let Upserted::Waits { owner, fresh: true } = *upserted else { return Vec::new() };
        vec![ModelWarning::Clash {
            object: object(),
            used: self.sources[owner as usize].name.clone(),
            ignored: self.sources[pass.source as usize].name.clone(),
        }]
    }
}
