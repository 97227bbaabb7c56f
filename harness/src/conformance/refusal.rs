//! A Service without any endpoint refuses at once, with ECONNREFUSED and nothing else.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use shunt_core::backend::{Feature, LeftReason};

use super::{Dialect, Service, Stage, expect::visit, service_ip};
use crate::{probe::How, world::Pod};

/// Every call in every dialect, from a pod and from the host.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    for (number, dialect) in (1..).zip(stage.dialects()) {
        let address = SocketAddr::new(service_ip(dialect.family, number), 80);
        let name = format!("nobody-{number}");
        let service = Service::new(&name, dialect.protocol, dialect.family).cluster_ip(address);
        let key = service.key.clone();
        let left = stage.serve([service])?;
        let pods = [stage.client()?, stage.world().host()];
        if stage.can(Feature::Refusal) {
            left.nothing()?;
            for pod in pods {
                refused(pod, dialect, address)?;
            }
        } else {
            left.only(&key, |reason| *reason == LeftReason::NoRefusal)?;
            for pod in pods {
                stage.expect_untouched(pod, dialect, address)?;
            }
        }
    }
    Ok(())
}

fn refused(pod: &Pod, dialect: Dialect, to: SocketAddr) -> Result<()> {
    for how in dialect.hows() {
        let what = || format!("{dialect} {how:?} from {}", pod.name());
        let failure = visit(pod, dialect, how, to)
            .err()
            .with_context(|| format!("{}: a Service without endpoints answered", what()))?;
        // By the very call that carries the address, not by an ICMP message that comes later.
        let call = match how {
            How::Connect | How::NonBlocking => "connect",
            How::FastOpen | How::SendTo => "sendto",
        };
        ensure!(failure.errno() == Some((call, Errno::ECONNREFUSED)), "{}: {failure}", what());
    }
    Ok(())
}
