//! externalIPs and load-balancer VIPs, whether or not the node owns them.

use std::net::SocketAddr;

use anyhow::Result;
use shunt_core::backend::Feature;

use super::{Dialect, Service, Stage, external_ip, service_ip};

/// A Service with both in each dialect.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
    let cluster = SocketAddr::new(service_ip(family, number), 80);
    let external = SocketAddr::new(external_ip(family, number), 80);
    let balancer = SocketAddr::new(external_ip(family, 100 + number), 80);
    // An address of the node is as good as any other.
    let owned = stage.world().second_host_addresses().at(family, 7000 + number);
    let name = format!("external-{number}");
    let internal_only =
        Service::new(&name, protocol, family).cluster_ip(cluster).endpoints(&endpoints);
    let service = internal_only.clone();
    let service = service.external_ip(external).external_ip(owned).load_balancer_ip(balancer);
    stage.serve([service])?.nothing()?;
    let outside = [external, balancer, owned];
    for pod in stage.clients()? {
        stage.expect_served(pod, dialect, cluster, &endpoints)?;
        for address in outside {
            if stage.can(Feature::ExternalAddresses) {
                stage.expect_served(pod, dialect, address, &endpoints)?;
            } else if address != owned {
                stage.expect_untouched(pod, dialect, address)?;
            }
        }
    }
    // They go, and the clusterIP stays.
    stage.serve([internal_only])?.nothing()?;
    stage.expect_served(stage.client()?, dialect, cluster, &endpoints)?;
    stage.expect_untouched(stage.client()?, dialect, external)?;
    stage.expect_untouched(stage.client()?, dialect, balancer)
}
