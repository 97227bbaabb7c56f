//! The lists are served as they are given: what topology keeps, and what terminates when nothing
//! is ready.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Dialect, Service, Stage, external_ip, service_ip};

/// A topology that keeps some endpoints, one that keeps others, and terminating ones alone.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.packet_dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 10 * number, 6)?;
    let cluster = SocketAddr::new(service_ip(family, number), 80);
    let external = SocketAddr::new(external_ip(family, number), 80);
    let service = Service::new(&format!("listed-{number}"), protocol, family)
        .cluster_ip(cluster)
        .external_ip(external);
    let whole = service.clone().endpoints(&all);
    let (near, far) = all.split_at(2);
    for (service, served) in [
        (whole.clone().keep_in_cluster(near), near),
        (whole.clone().keep_in_cluster(far), far),
        (whole.clone().leaving(near), far),
        (service.endpoints(near).terminating(), near),
        (whole.terminating().keep_in_cluster(far), far),
    ] {
        stage.serve([service])?.nothing()?;
        for pod in stage.clients()? {
            for to in [cluster, external] {
                stage.expect_served(pod, dialect, to, served)?;
            }
        }
    }
    Ok(())
}
