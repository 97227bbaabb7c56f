//! One allocation for a name that many objects carry.

use std::{collections::HashSet, mem, sync::Arc};

use shunt_core::{
    model::{EndpointSlice, ObjectName, Service},
    source::Object,
};

/// The names that were met. Namespaces, port names, nodes and zones are few, and every object
/// names some; a slice names its Service. Decoding makes a text of each.
#[derive(Debug, Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    /// Makes an object share its names with those that came before it.
    pub fn share(&mut self, object: &mut Object) {
        match object {
            Object::Service(service) => self.share_service(service),
            Object::EndpointSlice(slice) => self.share_slice(slice),
            // There are few of these.
            Object::Node(_) | Object::ServiceCidr(_) | Object::HostAddress(_) => {}
        }
    }

    fn share_service(&mut self, service: &mut Service) {
        self.share_object_name(&mut service.name);
        for port in &mut service.ports {
            self.share_name(&mut port.name);
        }
    }

    fn share_slice(&mut self, slice: &mut EndpointSlice) {
        self.share_object_name(&mut slice.name);
        slice.service.iter_mut().for_each(|name| self.share_name(name));
        for port in &mut slice.ports {
            self.share_name(&mut port.name);
        }
        for endpoint in &mut slice.endpoints {
            let place = endpoint.node_name.iter_mut().chain(&mut endpoint.zone);
            let hints = endpoint.hint_nodes.iter_mut().chain(&mut endpoint.hint_zones);
            place.chain(hints).for_each(|name| self.share_name(name));
        }
    }

    fn share_object_name(&mut self, name: &mut ObjectName) {
        self.share_name(&mut name.namespace);
        self.share_name(&mut name.name);
    }

    fn share_name(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.0.get(name) {
            drop(mem::replace(name, Arc::clone(known)));
        } else {
            self.0.insert(Arc::clone(name));
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
            endpoint.hint_zones.push("zone-1".into());
            slice.endpoints.push(endpoint);
        }
        let (service, slice) = (Object::Service(service), Object::EndpointSlice(slice));
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
        assert!(Arc::ptr_eq(&service.name.name, slice.service.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&service.ports[0].name, &slice.ports[0].name));
        let [one, two] = &slice.endpoints[..] else { panic!("there are two") };
        assert!(Arc::ptr_eq(one.node_name.as_ref().unwrap(), two.node_name.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&one.hint_zones[0], &two.hint_zones[0]));
    }
}
