//! What load balancers outside may ask of this node: written by the engine, read by the servers
//! that answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    num::NonZeroU16,
};

use dashmap::DashMap;
use tokio::sync::watch;

use crate::{
    model::{Family, ObjectName},
    plan::{HealthCheck, NodeState},
};

/// The health checks of Services, shared between the engine and the servers.
///
/// How many endpoints there are changes often and is looked up by whoever is asked; where servers
/// have to be changes seldom and is waited for.
#[derive(Debug, Default)]
pub struct HealthChecks {
    checks: DashMap<ObjectName, HealthCheck>,
    servers: watch::Sender<HealthServers>,
}

/// Where health checks have to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthServers {
    /// The addresses of this node that answer NodePorts.
    pub addresses: BTreeSet<IpAddr>,
    /// The port of each Service, and the families in which it exists.
    pub services: BTreeMap<ObjectName, (NonZeroU16, BTreeSet<Family>)>,
}

impl HealthChecks {
    /// How many endpoints of a Service this node has in a family; `None` if nobody is to ask.
    #[must_use]
    pub fn local_endpoints(&self, service: &ObjectName, family: Family) -> Option<usize> {
        self.checks.get(service)?.local_endpoints(family)
    }

    /// Where servers have to be; changes only if that does.
    #[must_use]
    pub fn servers(&self) -> watch::Receiver<HealthServers> {
        self.servers.subscribe()
    }

    /// Takes in what a plan changed.
    pub(super) fn take(
        &self,
        changes: HashMap<ObjectName, Option<HealthCheck>>,
        node: Option<&NodeState>,
    ) {
        // Counts first: a server that starts finds what it is to say.
        for (service, check) in &changes {
            match check {
                Some(check) => self.checks.insert(service.clone(), *check),
                None => self.checks.remove(service).map(|(_, check)| check),
            };
        }
        self.servers.send_if_modified(|servers| {
            let mut is_changed = false;
            if let Some(node) = node
                && servers.addresses != node.node_port_addresses
            {
                servers.addresses.clone_from(&node.node_port_addresses);
                is_changed = true;
            }
            for (service, check) in changes {
                let new = check.map(|check| place(&check));
                let old = match new.clone() {
                    Some(place) => servers.services.insert(service, place),
                    None => servers.services.remove(&service),
                };
                is_changed |= old != new;
            }
            is_changed
        });
    }
}

fn place(check: &HealthCheck) -> (NonZeroU16, BTreeSet<Family>) {
    let exists = |family: &Family| check.local_endpoints(*family).is_some();
    (check.port, Family::ALL.into_iter().filter(exists).collect())
}
