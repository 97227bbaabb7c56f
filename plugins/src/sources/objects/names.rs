//! One allocation for a name that many objects carry.

use std::{collections::HashSet, sync::Arc};

use foldhash::quality::RandomState;
use shunt_core::{
    model::{EndpointSlice, ObjectName, Service},
    source::Object,
};

/// So many names are kept without a look at whether they are still in use.
const FEW: usize = 1024;

/// The names that were met, as long as somebody has them.
///
/// Namespaces, port names, nodes and zones are few, and every object names some; a slice names its
/// Service. Decoding makes a text of each.
#[derive(Debug, Default)]
pub struct Names {
    texts: HashSet<Arc<str>, RandomState>,
    /// Those of Services, which their slices and everything that is planned of them carry.
    services: HashSet<ObjectName, RandomState>,
    /// How many there were after the last look at which are still in use.
    kept: usize,
}

impl Names {
    /// Makes an object share its names with those that came before it.
    pub fn share(&mut self, object: &mut Object) {
        self.forget_unused();
        match object {
            Object::Service(service) => self.share_service(service),
            Object::EndpointSlice(slice) => self.share_slice(Arc::make_mut(slice)),
            // There are few of these.
            Object::Node(_) | Object::ServiceCidr(_) | Object::HostAddress(_) => {}
        }
    }

    /// Forgets names that nobody has any more, each time that there are twice as many as before.
    fn forget_unused(&mut self) {
        if self.texts.len() + self.services.len() < (2 * self.kept).max(FEW) {
            return;
        }
        self.services.retain(ObjectName::is_shared);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.kept = self.texts.len() + self.services.len();
    }

    fn share_service(&mut self, service: &mut Service) {
        self.share_service_name(&mut service.name);
        for port in &mut service.ports {
            self.share_name(&mut port.name);
        }
    }

    fn share_slice(&mut self, slice: &mut EndpointSlice) {
        slice.service.iter_mut().for_each(|name| self.share_service_name(name));
        // Some name a slice as its Service; other names of slices are nobody else's.
        if let Some(known) = self.services.get(&slice.name) {
            slice.name = known.clone();
        } else {
            self.share_namespace(&mut slice.name);
        }
        for port in &mut slice.ports {
            self.share_name(&mut port.name);
        }
        for endpoint in &mut slice.endpoints {
            let place = endpoint.node_name.iter_mut().chain(&mut endpoint.zone);
            let hints = endpoint.hints.iter_mut();
            let hints = hints.flat_map(|hints| hints.nodes.iter_mut().chain(&mut hints.zones));
            place.chain(hints).for_each(|name| self.share_name(name));
        }
    }

    fn share_service_name(&mut self, name: &mut ObjectName) {
        if let Some(known) = self.services.get(name) {
            *name = known.clone();
        } else {
            self.share_namespace(name);
            self.services.insert(name.clone());
        }
    }

    fn share_namespace(&mut self, name: &mut ObjectName) {
        let mut namespace = Arc::clone(&name.namespace);
        self.share_name(&mut namespace);
        if !Arc::ptr_eq(&namespace, &name.namespace) {
            *name = ObjectName::of(namespace, Arc::clone(&name.name));
        }
    }

    fn share_name(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.texts.get(name) {
            *name = Arc::clone(known);
        } else {
            self.texts.insert(Arc::clone(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use shunt_core::model::{Family, PortSpec, Protocol, SliceEndpoint, SlicePort};

    use super::*;

    #[test]
    fn a_slice_shares_its_names_with_its_service_and_its_endpoints_with_each_other() {
        let port = std::num::NonZeroU16::MIN;
        let mut service = Service::new(ObjectName::new("default", "web"));
        let http = PortSpec { name: "http".into(), protocol: Protocol::Tcp, port, node_port: None };
        service.ports.push(http);
        let name = ObjectName::new("default", "web-1");
        let mut slice = EndpointSlice::new(name, Some("web".into()), Family::V4);
        slice.ports.push(SlicePort { name: "http".into(), protocol: Protocol::Tcp, port });
        for address in ["10.0.0.1", "10.0.0.2"] {
            let mut endpoint = SliceEndpoint::new(address.parse().unwrap());
            endpoint.node_name = Some("node-1".into());
            endpoint.hint(Vec::new(), vec!["zone-1".into()]);
            slice.endpoints.push(endpoint);
        }
        let (service, slice) = (Object::from(service), Object::from(slice));
        let (mut shared_service, mut shared_slice) = (service.clone(), slice.clone());
        let mut names = Names::default();
        names.share(&mut shared_service);
        names.share(&mut shared_slice);
        assert_eq!((&shared_service, &shared_slice), (&service, &slice), "nothing else changes");
        let (Object::Service(service), Object::EndpointSlice(slice)) =
            (shared_service, shared_slice)
        else {
            panic!("the kinds are as they were");
        };
        assert!(Arc::ptr_eq(&service.name.namespace, &slice.name.namespace));
        assert!(std::ptr::eq(&*service.name, &**slice.service.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&service.ports[0].name, &slice.ports[0].name));
        let [one, two] = &slice.endpoints[..] else { panic!("there are two") };
        assert!(Arc::ptr_eq(one.node_name.as_ref().unwrap(), two.node_name.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&one.hint_zones()[0], &two.hint_zones()[0]));
    }

    #[test]
    fn names_that_nobody_has_are_forgotten() {
        let mut names = Names::default();
        let mut kept = Vec::new();
        for number in 0..10 * FEW {
            let mut object =
                Object::from(Service::new(ObjectName::new("default", &format!("web-{number}"))));
            names.share(&mut object);
            if number < 10 {
                kept.push(object);
            }
        }
        assert!(names.services.len() <= FEW, "{}", names.services.len());
        for object in &kept {
            let Object::Service(service) = object else { panic!("it is a Service") };
            assert!(names.services.contains(&service.name), "{}", service.name);
        }
    }
}
