//! SCTP: taken, or left for a stated reason without harm to others.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use shunt_core::{backend::LeftReason, model::Protocol};

use super::{Dialect, Service, Stage, service_ip};
use crate::{
    probe::Sighting,
    until,
    world::{Pod, World},
};

/// An SCTP ServicePort beside another one of the same address and port.
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
    let address = SocketAddr::new(service_ip(family, number), 80);
    let sctp = Service::new("sctp", Protocol::Sctp, family);
    let sctp = sctp.cluster_ip(address).endpoints(&endpoints);
    let key = sctp.key.clone();
    let other = Service::new(&format!("other-{number}"), protocol, family);
    let left = stage.serve([sctp, other.cluster_ip(address).endpoints(&endpoints)])?;
    if stage.capabilities().protocols.contains(&Protocol::Sctp) {
        left.nothing()?;
        arrives(stage, dialect, number, address, &endpoints).context("an INIT chunk")?;
    } else {
        left.only(&key, |reason| *reason == LeftReason::Protocol(Protocol::Sctp))?;
    }
    stage.expect_served(stage.client()?, dialect, address, &endpoints)?;
    stage.remove([key])?.nothing()?;
    stage.expect_served(stage.client()?, dialect, address, &endpoints)
}

/// The packet that opens an association arrives at an endpoint, from a pod, the host and outside;
/// without endpoints it is refused, and an unknown port is, too. The kernel may have no SCTP: what
/// arrives is looked at as a packet.
fn arrives(
    stage: &mut Stage<'_>,
    dialect: Dialect,
    number: u16,
    address: SocketAddr,
    endpoints: &[SocketAddr],
) -> Result<()> {
    let family = dialect.family;
    let empty = SocketAddr::new(service_ip(family, 500 + number), 80);
    let nobody = Service::new("sctp-nobody", Protocol::Sctp, family).cluster_ip(empty);
    let key = nobody.key.clone();
    stage.serve([nobody])?.nothing()?;
    for (pod, from) in stage.clients()?.into_iter().zip(4000 + 100 * number..) {
        for turn in 0..6 {
            let from = from + 10 * turn;
            one_arrives(stage, pod, from, address, endpoints)
                .with_context(|| format!("from {}", pod.name()))?;
        }
        if pod.name() == "host" {
            // Its refusals do not leave it.
            continue;
        }
        for to in [empty, SocketAddr::new(address.ip(), 81)] {
            let tap = pod.tap()?;
            pod.send_sctp_init(from, to)?;
            let mut seen = Vec::new();
            let is_told = |seen: &[Sighting]| {
                let code = if family == shunt_core::model::Family::V4 {
                    (1, 0x0303)
                } else {
                    (58, 0x0104)
                };
                seen.iter().any(|seen| (seen.protocol, seen.destination.port()) == code)
            };
            until("the refusal of an INIT chunk", Duration::from_secs(10), || {
                seen.extend(tap.look().unwrap_or_default());
                is_told(&seen).then_some(())
            })
            .with_context(|| format!("{to} from {}: {seen:?}", pod.name()))?;
        }
    }
    stage.remove([key])?.nothing()
}

fn one_arrives(
    stage: &Stage<'_>,
    pod: &Pod,
    from: u16,
    address: SocketAddr,
    endpoints: &[SocketAddr],
) -> Result<()> {
    let echoes = ["echo-1", "echo-2", "echo-3"].map(|name| stage.world().pod(name));
    let mut taps = Vec::new();
    for echo in echoes {
        taps.push(echo?.tap()?);
    }
    pod.send_sctp_init(from, address)?;
    let seen = until("an INIT chunk to arrive", Duration::from_secs(10), || {
        let mut seen = taps.iter().flat_map(|tap| tap.look().unwrap_or_default());
        seen.find(|seen| seen.protocol == 132 && !seen.outgoing)
    })?;
    ensure!(endpoints.contains(&seen.destination), "arrived at {}", seen.destination);
    let family = shunt_core::model::Family::of(address.ip());
    // Local pods keep their source; the host has but one; the client outside is masqueraded.
    let keeps = pod.node() == World::OWN_NODE;
    let expected = if keeps { pod } else { stage.world().host() }.addresses().of(family);
    ensure!(seen.source.ip() == expected, "arrived from {}", seen.source);
    Ok(())
}
