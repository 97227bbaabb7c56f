//! `internalTrafficPolicy: Local`: endpoints of this node alone, and a drop without any.

use std::net::SocketAddr;

use anyhow::Result;
use shunt_core::backend::{Feature, LeftReason};

use super::{Dialect, Service, Stage, external_ip, service_ip};

/// With local endpoints, without them, and with them again.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 10 * number, 6)?;
    let own_pod = stage.world().pod("echo-1")?.addresses().of(family);
    let local: Vec<_> = all.iter().copied().filter(|e| e.ip() == own_pod).collect();
    let cluster = SocketAddr::new(service_ip(family, number), 80);
    let external = SocketAddr::new(external_ip(family, number), 80);
    let with = |local: &[SocketAddr]| {
        Service::new(&format!("internal-{number}"), protocol, family)
            .cluster_ip(cluster)
            .external_ip(external)
            .endpoints(&all)
            .local(local)
            .internal_local()
    };
    let key = with(&local).key;
    stage.serve([with(&local)])?.nothing()?;
    let pods = stage.clients()?;
    for &pod in &pods {
        stage.expect_served(pod, dialect, cluster, &local)?;
        // The policy of internal traffic never touches external traffic.
        if stage.can(Feature::ExternalAddresses) {
            stage.expect_served(pod, dialect, external, &all)?;
        }
    }

    let left = stage.serve([with(&[])])?;
    if stage.can(Feature::Drop) {
        left.nothing()?;
        for pod in stage.clients()? {
            stage.expect_silence(pod, dialect, cluster)?;
        }
    } else {
        left.only(&key, |reason| *reason == LeftReason::NoLocalEndpoint)?;
        for &pod in &pods {
            stage.expect_untouched(pod, dialect, cluster)?;
        }
    }
    if stage.can(Feature::ExternalAddresses) {
        stage.expect_served(pods[0], dialect, external, &all)?;
    }
    stage.serve([with(&local)])?.nothing()?;
    stage.expect_served(pods[0], dialect, cluster, &local)
}
