//! The objects at the API server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use shunt_harness::{
    apiserver::{ApiServer, objects},
    world::World,
};

use crate::{
    proxy::{DRAIN, PODS, PORT},
    say,
};

/// The namespace of all objects.
const NAMESPACE: &str = "default";

/// The least number of Services: with one of each kind.
pub(crate) const LEAST: usize = EACH;

/// Of so many Services one answers by UDP and one takes streams.
const EACH: usize = 25;

/// A cluster that grows. Worlds are closed and have the same addresses, so that one set of objects
/// is right in each.
pub(crate) struct Cluster<'a> {
    pub(crate) server: &'a ApiServer<'a>,
    /// All Services.
    pub(crate) services: usize,
    /// Where those are reached that answer by TCP, in the order in which they were made.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where those are reached that answer by UDP.
    pub(crate) udp: Vec<SocketAddr>,
    /// Where those are reached that take streams.
    pub(crate) drains: Vec<SocketAddr>,
    /// By which of the sets of pods each of [`Self::addresses`] is served.
    sets: Vec<AtomicUsize>,
    /// The addresses of [`PODS`].
    pods: [[IpAddr; 2]; 2],
}

/// What a Service is for.
#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Udp,
    Drain,
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
        let (addresses, udp, drains) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { server, services: 0, addresses, udp, drains, sets: Vec::new(), pods })
    }

    /// Makes Services until there are so many.
    pub(crate) fn grow(&mut self, services: usize) -> Result<()> {
        let mut next = [self.addresses.len(), self.udp.len(), self.drains.len()];
        let mut wanted = Vec::new();
        for number in self.services..services {
            let kind = match number % EACH {
                12 => Kind::Udp,
                24 => Kind::Drain,
                _ => Kind::Tcp,
            };
            if let Some(next) = next.get_mut(kind as usize) {
                wanted.push((kind, *next));
                *next += 1;
            }
        }
        let made = wanted.iter().map(|(kind, number)| kind.service(*number));
        let made = self.server.client().create_all(&made.collect::<Vec<_>>())?;
        for (service, (kind, _)) in made.iter().zip(&wanted) {
            let address = service["spec"]["clusterIP"].as_str().context("no clusterIP")?;
            let address = SocketAddr::new(address.parse()?, 80);
            match kind {
                Kind::Tcp => {
                    self.addresses.push(address);
                    self.sets.push(AtomicUsize::new(0));
                }
                Kind::Udp => self.udp.push(address),
                Kind::Drain => self.drains.push(address),
            }
        }
        let slices = wanted.iter().map(|(kind, number)| kind.slice(*number, self.pods[0]));
        self.server.client().create_all(&slices.collect::<Vec<_>>())?;
        self.services = services;
        say(&format!("  the API server has {services} Services"));
        Ok(())
    }

    /// By which set of pods a Service is served that answers by TCP.
    pub(crate) fn set(&self, number: usize) -> usize {
        self.sets.get(number).map_or(0, |set| set.load(Ordering::SeqCst))
    }

    /// Has such a Service served by the other set of pods; how long the API server took.
    pub(crate) fn change(&self, number: usize) -> Result<Duration> {
        let set = 1 - self.set(number);
        let pods = self.pods.into_iter().cycle().nth(set).unwrap_or(self.pods[0]);
        let slice = Kind::Tcp.slice(number, pods);
        let start = Instant::now();
        self.server.client().replace(&slice)?;
        let took = start.elapsed();
        if let Some(known) = self.sets.get(number) {
            known.store(set, Ordering::SeqCst);
        }
        Ok(took)
    }

    /// So many Services that answer by TCP, evenly spread over all.
    pub(crate) fn some(&self, count: usize) -> Vec<SocketAddr> {
        let step = (self.addresses.len() / count.max(1)).max(1);
        self.addresses.iter().copied().rev().step_by(step).collect()
    }
}

impl Kind {
    fn service(self, number: usize) -> Value {
        let mut service = objects::service(NAMESPACE, &self.name(number));
        if matches!(self, Self::Udp) {
            service["spec"]["ports"][0]["protocol"] = json!("UDP");
        }
        service
    }

    fn slice(self, number: usize, pods: [IpAddr; 2]) -> Value {
        let port = if matches!(self, Self::Drain) { DRAIN } else { PORT };
        let endpoints = pods.map(|address| SocketAddr::new(address, port));
        let mut slice = objects::slice(NAMESPACE, &self.name(number), "abcde", &endpoints);
        if matches!(self, Self::Udp) {
            slice["ports"][0]["protocol"] = json!("UDP");
        }
        slice
    }

    fn name(self, number: usize) -> String {
        let kind = match self {
            Self::Tcp => "service",
            Self::Udp => "udp",
            Self::Drain => "drain",
        };
        format!("{kind}-{number}")
    }
}
