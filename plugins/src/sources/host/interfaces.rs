//! What the kernel said so far about interfaces and their addresses.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use shunt_core::{
    Update,
    model::HostAddress,
    source::{Object, ObjectId},
};

/// Names and addresses of interfaces, by the index that the kernel's messages carry.
#[derive(Debug, Default)]
pub(super) struct Interfaces(HashMap<u32, Interface>);

#[derive(Debug, Default)]
struct Interface {
    /// Unknown while addresses of it were told before the interface itself.
    name: Option<Arc<str>>,
    /// With prefix lengths: one address may be there with two of them, and is gone only with the
    /// last.
    addresses: BTreeSet<(IpAddr, u8)>,
}

impl Interfaces {
    /// An interface exists; it may be new, or have a new name.
    pub(super) fn link_is(&mut self, index: u32, name: &str) -> Vec<Update> {
        let interface = self.0.entry(index).or_default();
        if interface.name.as_deref() == Some(name) {
            return Vec::new();
        }
        let mut updates: Vec<_> = interface.objects().map(remove).collect();
        interface.name = Some(name.into());
        updates.extend(interface.objects().map(upsert));
        updates
    }

    /// An interface is gone, or a port has left its bridge: the kernel says both in one way, and
    /// nlink does not show the difference.
    ///
    /// Of one that is gone the kernel has told every address as gone before. Returns whether that
    /// is so; if not, everything has to be listed anew.
    pub(super) fn link_gone(&mut self, index: u32) -> bool {
        self.0.remove(&index).is_none_or(|interface| interface.addresses.is_empty())
    }

    /// An interface carries an address.
    pub(super) fn address_is(&mut self, index: u32, address: IpAddr, length: u8) -> Option<Update> {
        let interface = self.0.entry(index).or_default();
        let is_new = !interface.carries(address);
        interface.addresses.insert((address, length));
        is_new.then(|| interface.object(address).map(upsert))?
    }

    /// An interface no longer carries an address.
    pub(super) fn address_gone(
        &mut self,
        index: u32,
        address: IpAddr,
        length: u8,
    ) -> Option<Update> {
        let interface = self.0.get_mut(&index)?;
        let is_last = interface.addresses.remove(&(address, length)) && !interface.carries(address);
        is_last.then(|| interface.object(address).map(remove))?
    }
}

impl Interface {
    fn carries(&self, address: IpAddr) -> bool {
        self.addresses.range((address, 0)..=(address, u8::MAX)).next().is_some()
    }

    fn object(&self, address: IpAddr) -> Option<HostAddress> {
        let interface = Arc::clone(self.name.as_ref()?);
        Some(HostAddress { interface, address })
    }

    fn objects(&self) -> impl Iterator<Item = HostAddress> {
        let addresses: BTreeSet<_> = self.addresses.iter().map(|(address, _)| *address).collect();
        addresses.into_iter().filter_map(|address| self.object(address))
    }
}

fn upsert(address: HostAddress) -> Update {
    Update::Upsert(Object::from(address))
}

fn remove(address: HostAddress) -> Update {
    Update::Remove(ObjectId::HostAddress(Box::new(address)))
}
