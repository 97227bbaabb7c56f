//! The active ClusterIPs, and whose they are.

use std::{
    collections::{HashMap, hash_map},
    net::IpAddr,
};

use foldhash::quality::RandomState;

use crate::model::ObjectName;

/// The active ClusterIPs, and the Services that have each.
#[derive(Debug, Default)]
pub(super) struct ActiveIps {
    services: HashMap<IpAddr, ObjectName, RandomState>,
    /// Further Services with the same address. The API server admits none, files may have some.
    further: HashMap<IpAddr, Vec<ObjectName>, RandomState>,
}

impl ActiveIps {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.services.reserve(more);
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.services.keys().copied()
    }

    /// The Services that have this address.
    pub(super) fn services(&self, address: IpAddr) -> impl Iterator<Item = &ObjectName> {
        let further = self.further.get(&address).into_iter().flatten();
        self.services.get(&address).into_iter().chain(further)
    }

    /// A Service has the address. Returns whether it was not active before.
    pub(super) fn add(&mut self, address: IpAddr, service: &ObjectName) -> bool {
        match self.services.entry(address) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(service.clone());
                true
            }
            hash_map::Entry::Occupied(_) => {
                self.further.entry(address).or_default().push(service.clone());
                false
            }
        }
    }

    /// A Service no longer has the address. Returns whether it is no longer active.
    pub(super) fn remove(&mut self, address: IpAddr, service: &ObjectName) -> bool {
        let further = self.further.get_mut(&address);
        let Some(first) = self.services.get_mut(&address) else { return false };
        let Some(further) = further else {
            let is_its = first == service;
            if is_its {
                self.services.remove(&address);
            }
            return is_its;
        };
        if first == service {
            // What is here is never empty.
            *first = further.remove(0);
        } else {
            further.retain(|other| other != service);
        }
        if further.is_empty() {
            self.further.remove(&address);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_active_as_long_as_a_service_has_it() {
        let address = IpAddr::from([10, 96, 0, 1]);
        let [web, dns, db] = ["web", "dns", "db"].map(|name| ObjectName::new("default", name));
        let mut active = ActiveIps::default();
        let services = |active: &ActiveIps| {
            active.services(address).map(|name| name.name.to_string()).collect::<Vec<_>>()
        };
        assert!(!active.remove(address, &web), "nobody has it");
        assert!(active.add(address, &web));
        assert!(!active.add(address, &dns));
        assert!(!active.add(address, &db));
        assert!(!active.remove(address, &web));
        assert_eq!(services(&active), ["dns", "db"]);
        assert!(!active.remove(address, &web), "it has it no more");
        assert!(!active.remove(address, &db));
        assert_eq!(services(&active), ["dns"]);
        assert!(active.remove(address, &dns));
        assert_eq!(active.iter().count(), 0);
        assert!(active.add(address, &db), "it comes back");
    }
}
