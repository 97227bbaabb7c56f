//! What is read back from the kernel is what was applied.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use shunt_core::{
    backend::{Answer, Feature, InspectedService},
    model::{Family, Protocol},
};

use super::{Service, Stage, external_ip, service_ip};

/// One ServicePort of each kind, then fewer, then none.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    ensure!(
        stage.inspect()?.services.is_empty(),
        "something is served before anything was applied"
    );
    let capabilities = stage.capabilities();
    let mut services = Vec::new();
    for &family in &capabilities.families {
        for &protocol in &capabilities.protocols {
            services.extend(all_kinds(stage, protocol, family));
        }
    }
    stage.serve(services.clone())?.nothing()?;
    compare(stage, &services)?;
    stage.expect_healthy()?;

    let removed = services.split_off(services.len() / 2);
    stage.remove(removed.into_iter().map(|service| service.key))?.nothing()?;
    compare(stage, &services)?;
    stage.remove(services.into_iter().map(|service| service.key))?.nothing()?;
    compare(stage, &[])
}

fn all_kinds(stage: &Stage<'_>, protocol: Protocol, family: Family) -> Vec<Service> {
    let name = |kind: &str| Service::new(kind, protocol, family);
    let udp = u16::from(protocol == Protocol::Udp);
    let address = |number: u16| SocketAddr::new(service_ip(family, 10 * number + udp), 443);
    let outside = |number: u16| SocketAddr::new(external_ip(family, 10 * number + udp), 443);
    let endpoint = |number: u16| SocketAddr::new(service_ip(family, 60_000 + number), 8443);
    // Numbers and text sort differently: the order of the plan is not the backend's.
    let endpoints = [endpoint(9), endpoint(10), endpoint(100)];
    let mut all = vec![
        name("plain").cluster_ip(address(1)).endpoints(&endpoints),
        name("single").cluster_ip(address(2)).endpoints(&endpoints[..1]),
    ];
    let mut add = |feature, service| {
        if stage.can(feature) {
            all.push(service);
        }
    };
    let everything = name("everything").cluster_ip(address(3)).node_port(30_080);
    let everything = everything.external_ip(outside(1)).load_balancer_ip(outside(2));
    add(Feature::Refusal, name("nobody").cluster_ip(address(4)));
    add(Feature::Affinity, name("sticky").cluster_ip(address(5)).endpoints(&endpoints).affinity(9));
    add(Feature::ExternalAddresses, everything.endpoints(&endpoints));
    all
}

fn compare(stage: &mut Stage<'_>, expected: &[Service]) -> Result<()> {
    let inspection = stage.inspect()?;
    for table in &inspection.tables {
        ensure!(table.used <= table.size, "{} of {} in {}", table.used, table.size, table.name);
    }
    let mut keys: Vec<_> = expected.iter().map(|service| &service.key).collect();
    keys.sort_unstable();
    let seen: Vec<_> = inspection.services.iter().map(|service| &service.key).collect();
    ensure!(seen == keys, "read back {seen:?}, applied {keys:?}");
    for service in &inspection.services {
        let wanted = expected.iter().find(|wanted| wanted.key == service.key);
        compare_one(service, wanted.context("keys are equal")?)
            .with_context(|| service.key.to_string())?;
    }
    Ok(())
}

fn compare_one(seen: &InspectedService, wanted: &Service) -> Result<()> {
    let frontends: BTreeSet<_> = seen.frontends.iter().map(|seen| &seen.frontend).collect();
    let expected: BTreeSet<_> = wanted.port.frontends.iter().collect();
    ensure!(frontends == expected, "read back {frontends:?}, applied {expected:?}");
    let seconds = seen.affinity_seconds;
    ensure!(seconds == wanted.port.affinity_seconds, "affinity of {seconds:?} seconds");
    let mut endpoints: Vec<_> = wanted.port.cluster_list().map(|e| e.address).collect();
    endpoints.sort_unstable();
    for frontend in &seen.frontends {
        let mut answer = frontend.answer.clone();
        if let Answer::Endpoints(endpoints) = &mut answer {
            endpoints.sort_unstable();
        }
        let expected = match wanted.port.has_any {
            true => Answer::Endpoints(endpoints.clone()),
            false => Answer::Refused,
        };
        ensure!(answer == expected, "{:?} answers {answer:?}", frontend.frontend);
    }
    Ok(())
}
