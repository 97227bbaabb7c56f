//! The health check that a load balancer outside asks a node for.

use std::{collections::BTreeSet, net::IpAddr, num::NonZeroU16};

use super::draft::PortDraft;
use crate::model::{Family, Service, ServiceType, TrafficPolicy};

/// What a load balancer outside may ask this node about a Service: whether it has endpoints here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`: where it asks.
    pub port: NonZeroU16,
    local_endpoints: [Option<u32>; Family::ALL.len()],
}

impl HealthCheck {
    /// How many endpoints on this node take connections in a family, a pod that serves several
    /// ports counted once; `None` if the Service does not exist in the family, and so is not asked
    /// for there.
    #[must_use]
    pub fn local_endpoints(&self, family: Family) -> Option<usize> {
        let counts = Family::ALL.into_iter().zip(self.local_endpoints);
        let count = counts.into_iter().find(|(of, _)| *of == family)?.1;
        count.map(|count| count as usize)
    }
}

/// The health check of a Service. Only a LoadBalancer with external policy Local has one, because
/// only there it matters to the outside which node has an endpoint.
pub(super) fn check(service: &Service, ports: &[PortDraft]) -> Option<HealthCheck> {
    let asked_for = service.service_type == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local;
    let port = service.health_check_node_port.filter(|_| asked_for)?;
    let local_endpoints = Family::ALL.map(|family| count(ports, family));
    local_endpoints.iter().any(Option::is_some).then_some(HealthCheck { port, local_endpoints })
}

/// Distinct addresses of local ready endpoints. Terminating ones do not count, also where they are
/// all that there is: the load balancer is to look elsewhere.
fn count(ports: &[PortDraft], family: Family) -> Option<u32> {
    let mut of_family = ports.iter().filter(|port| port.key.family == family).peekable();
    of_family.peek()?;
    let counts = of_family
        .flat_map(|port| &port.state.endpoints)
        .filter(|endpoint| endpoint.local && endpoint.conditions.ready);
    let addresses: BTreeSet<IpAddr> = counts.map(|endpoint| endpoint.address.ip()).collect();
    u32::try_from(addresses.len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Conditions, ObjectName, Protocol},
        plan::{Endpoint, ServicePort, ServicePortKey},
    };

    fn port(family: Family, endpoints: &[&str]) -> PortDraft {
        let mut state = ServicePort::new();
        for text in endpoints {
            let (address, state_of) = text.split_once(' ').expect("an address and a state");
            let mut endpoint = Endpoint::new(address.parse().expect("an address"));
            endpoint.local = state_of != "elsewhere";
            if state_of == "terminating" {
                endpoint.conditions = Conditions { ready: false, serving: true, terminating: true };
            }
            state.endpoints.push(endpoint);
        }
        let key = ServicePortKey {
            service: ObjectName::new("default", "web"),
            port: "".into(),
            protocol: Protocol::Tcp,
            family,
        };
        PortDraft { key, created: 0, wanted: smallvec::SmallVec::new(), state }
    }

    fn service(service_type: ServiceType, external_policy: TrafficPolicy) -> Service {
        let mut service = Service::new(ObjectName::new("default", "web"));
        service.service_type = service_type;
        service.external_policy = external_policy;
        service.health_check_node_port = NonZeroU16::new(32_000);
        service
    }

    #[test]
    fn only_a_load_balancer_with_external_policy_local_has_one() {
        use ServiceType::{ClusterIp, LoadBalancer, NodePort};
        use TrafficPolicy::{Cluster, Local};

        let ports = [port(Family::V4, &[])];
        let has = |service_type, policy| check(&service(service_type, policy), &ports).is_some();
        assert!(has(LoadBalancer, Local));
        assert!(!has(LoadBalancer, Cluster));
        assert!(!has(NodePort, Local));
        assert!(!has(ClusterIp, Local));
        let mut no_port = service(LoadBalancer, Local);
        no_port.health_check_node_port = None;
        assert_eq!(check(&no_port, &ports), None);
        assert_eq!(check(&service(LoadBalancer, Local), &[]), None, "nothing to ask about");
    }

    #[test]
    fn local_ready_addresses_count_once_over_all_ports_and_by_family() {
        let service = service(ServiceType::LoadBalancer, TrafficPolicy::Local);
        let counts = |ports: &[PortDraft]| {
            let check = check(&service, ports).expect("a health check");
            (check.local_endpoints(Family::V4), check.local_endpoints(Family::V6))
        };
        let http = || {
            port(
                Family::V4,
                &["10.0.0.1:80 here", "10.0.0.2:80 elsewhere", "10.0.0.3:80 terminating"],
            )
        };
        let https = port(Family::V4, &["10.0.0.1:443 here", "10.0.0.4:443 here"]);
        assert_eq!(counts(&[http()]), (Some(1), None));
        assert_eq!(counts(&[http(), https]), (Some(2), None));
        let v6 = port(Family::V6, &["[fd00::1]:80 elsewhere"]);
        assert_eq!(counts(&[http(), v6]), (Some(1), Some(0)));
    }
}
