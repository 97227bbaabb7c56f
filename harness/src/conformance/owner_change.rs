//! A frontend that passes from one ServicePort to another in one Delta is served throughout.

use std::net::SocketAddr;

use anyhow::Result;
use shunt_core::{backend::Feature, model::Protocol};

use super::{
    Dialect, Service, Stage,
    meanwhile::{Caller, expect_served_all, meanwhile},
    service_ip,
};
use crate::probe::Burst;

/// How often the frontends change hands.
const TURNS: usize = 60;

/// A clusterIP and a NodePort change hands; so does the clusterIP of a Service that is made anew.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 10 * number, 4)?;
    let address = SocketAddr::new(service_ip(family, number), 80);
    let node_port = stage.world().host().at(family, 30_000 + number);
    let mut frontends = vec![address];
    if stage.can(Feature::NodePort) {
        frontends.push(node_port);
    }
    let name = |who: &str| Service::new(&format!("{who}-{number}"), protocol, family);
    let owner = |who, set: &[SocketAddr]| {
        let service = name(who).cluster_ip(address).node_port(node_port.port());
        // A flow to an endpoint that does not serve any more is forgotten, whatever is on its way:
        // those of UDP serve on, as in a cluster, while new flows go elsewhere.
        match protocol {
            Protocol::Udp => {
                let leaving: Vec<_> = all.iter().copied().filter(|e| !set.contains(e)).collect();
                service.endpoints(&all).leaving(&leaving)
            }
            _ => service.endpoints(set),
        }
    };
    let owners = [("one", &all[..2]), ("two", &all[2..])];
    stage.serve([owner("one", &all[..2])])?.nothing()?;

    // Not one of the callers, for whose next answer it would have to wait.
    let client = stage.world().pod("client-2")?;
    let mut burst = Burst::new(dialect.socket(), address, 100);
    burst.to = frontends.iter().map(|&frontend| dialect.address(frontend)).collect();
    let clients = stage.clients()?;
    let callers = clients.into_iter().map(|pod| Caller::new(pod, burst.clone()));
    let tallies = meanwhile(callers.collect(), || {
        (1..=TURNS).try_for_each(|turn| {
            let (old, new) = (owners[(turn + 1) % 2], owners[turn % 2]);
            // The one that loses is removed, or stays without a frontend.
            match turn % 3 {
                0 => stage.replace(&name(old.0).key, owner(new.0, new.1))?.nothing()?,
                _ => {
                    let loser = name(old.0).endpoints(old.1);
                    stage.serve([loser, owner(new.0, new.1)])?.nothing()?;
                }
            }
            frontends.iter().try_for_each(|&to| stage.expect_served(client, dialect, to, new.1))
        })
    })?;
    expect_served_all(&tallies, &all)
}
