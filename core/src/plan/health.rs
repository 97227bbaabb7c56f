//! The health check that a load balancer outside asks a node for.

use std::num::NonZeroU16;

use crate::model::{Service, ServiceType, TrafficPolicy};

/// Where the Service's health check is answered: only a LoadBalancer with external policy Local
/// has one, because only there it matters to the outside which node has an endpoint.
pub(super) fn check_node_port(service: &Service) -> Option<NonZeroU16> {
    let asked_for = service.service_type == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local;
    service.health_check_node_port.filter(|_| asked_for)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectName;

    #[test]
    fn only_a_load_balancer_with_external_policy_local_has_one() {
        use ServiceType::{ClusterIp, LoadBalancer, NodePort};
        use TrafficPolicy::{Cluster, Local};

        let check = |service_type, external_policy, wanted: bool| {
            let mut service = Service::new(ObjectName::new("default", "web"));
            service.service_type = service_type;
            service.external_policy = external_policy;
            service.health_check_node_port = NonZeroU16::new(32_000);
            assert_eq!(check_node_port(&service).is_some(), wanted);
        };
        check(LoadBalancer, Local, true);
        check(LoadBalancer, Cluster, false);
        check(NodePort, Local, false);
        check(ClusterIp, Local, false);
    }
}
