//! The objects at the API server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use shunt_harness::{
    apiserver::{ApiServer, objects},
    world::World,
};

use crate::say;

/// The namespace of all objects.
const NAMESPACE: &str = "default";

/// The port at which the pods of a world answer.
pub(crate) const PORT: u16 = 8080;

/// The pods that serve: every Service has both of one set or both of the other.
pub(crate) const PODS: [[&str; 2]; 2] = [["a-1", "a-2"], ["b-1", "b-2"]];

/// A cluster that grows. Worlds are closed and have the same addresses, so that one set of objects
/// is right in each.
pub(crate) struct Cluster<'a> {
    pub(crate) server: &'a ApiServer<'a>,
    /// Where the Services are reached, in the order in which they were made.
    pub(crate) addresses: Vec<SocketAddr>,
    /// By which of the sets of pods each of them is served.
    sets: Vec<AtomicUsize>,
    /// The addresses of [`PODS`].
    pods: [[IpAddr; 2]; 2],
}

impl<'a> Cluster<'a> {
    /// A cluster of a Node without Services. `world` is one of those that will be served.
    pub(crate) fn new(server: &'a ApiServer<'a>, world: &World) -> Result<Self> {
        let node = objects::node(World::OWN_NODE, &[world.host().address4().into()]);
        server.client().create(&node)?;
        let mut pods = [[IpAddr::V4(Ipv4Addr::UNSPECIFIED); 2]; 2];
        for (name, address) in PODS.iter().flatten().zip(pods.iter_mut().flatten()) {
            *address = world.pod(name)?.address4().into();
        }
        Ok(Self { server, addresses: Vec::new(), sets: Vec::new(), pods })
    }

    /// Makes Services until there are so many.
    pub(crate) fn grow(&mut self, services: usize) -> Result<()> {
        let numbers = self.addresses.len()..services;
        let made = numbers.clone().map(|number| objects::service(NAMESPACE, &name(number)));
        let made = self.server.client().create_all(&made.collect::<Vec<_>>())?;
        for service in &made {
            let address = service["spec"]["clusterIP"].as_str().context("no clusterIP")?;
            self.addresses.push(SocketAddr::new(address.parse()?, 80));
            self.sets.push(AtomicUsize::new(0));
        }
        let slices: Vec<_> = numbers.map(|number| self.slice(number, 0)).collect();
        self.server.client().create_all(&slices)?;
        say(&format!("  the API server has {services} Services"));
        Ok(())
    }

    /// By which set of pods a Service is served.
    pub(crate) fn set(&self, number: usize) -> usize {
        self.sets.get(number).map_or(0, |set| set.load(Ordering::SeqCst))
    }

    /// Has a Service served by the other set of pods.
    pub(crate) fn change(&self, number: usize) -> Result<()> {
        let set = 1 - self.set(number);
        self.server.client().apply(&self.slice(number, set))?;
        if let Some(known) = self.sets.get(number) {
            known.store(set, Ordering::SeqCst);
        }
        Ok(())
    }

    /// So many Services, evenly spread over all.
    pub(crate) fn some(&self, count: usize) -> Vec<SocketAddr> {
        let step = (self.addresses.len() / count.max(1)).max(1);
        self.addresses.iter().copied().rev().step_by(step).collect()
    }

    fn slice(&self, number: usize, set: usize) -> Value {
        let pods = self.pods.into_iter().cycle().nth(set).unwrap_or(self.pods[0]);
        let endpoints = pods.map(|address| SocketAddr::new(address, PORT));
        objects::slice(NAMESPACE, &name(number), "abcde", &endpoints)
    }
}

fn name(number: usize) -> String {
    format!("service-{number}")
}
