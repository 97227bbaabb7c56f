//! The plan against a second, naive implementation, and against itself.

#[cfg(test)]
mod generate;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
    sync::Arc,
};

use proptest::prelude::*;
use shunt_core::{
    Delta, Update,
    model::{Cluster, Dirty, Family, ObjectName},
    plan::{
        HealthCheck, NodePortAddresses, PlanOptions, Planner, ServicePort, ServicePortKey, Warning,
    },
    source::{Completeness, Object, ObjectId, SourceName},
};
use shunt_harness::naive::{NaiveCluster, NaivePlan};

use crate::generate::{Batch, Step, batches, node_port_addresses, objects};

const NODE: &str = "node-1";

/// The model and the plan, beside a list of the objects that there should be.
struct World {
    source: SourceName,
    cluster: Cluster,
    planner: Planner,
    /// All Deltas so far, as one.
    merged: Delta,
    /// All changes of health checks so far.
    health: BTreeMap<ObjectName, HealthCheck>,
    naive: NaiveCluster,
    objects: BTreeMap<ObjectId, Object>,
}

impl World {
    fn new(node_port_addresses: NodePortAddresses) -> Self {
        let options = PlanOptions {
            node_port_addresses: node_port_addresses.clone(),
            node_ip: None,
            cluster_cidrs: Vec::new(),
        };
        let naive = NaiveCluster {
            objects: Vec::new(),
            node_name: NODE.into(),
            node_port_addresses,
            node_ip: None,
        };
        Self {
            source: SourceName::new("test"),
            cluster: Cluster::new(NODE.into()),
            planner: Planner::new(options),
            merged: Delta::default(),
            health: BTreeMap::new(),
            naive,
            objects: BTreeMap::new(),
        }
    }

    fn take(&mut self, batch: Batch) -> (Delta, Vec<Warning>) {
        let mut dirty = Dirty::default();
        if batch.after_reset {
            self.objects.clear();
            self.cluster.apply(&self.source, Update::Reset, &mut dirty);
        }
        for step in batch.steps {
            let update = match step {
                Step::Upsert(object) => {
                    self.objects.insert(object.id(), object.clone());
                    Update::Upsert(object)
                }
                Step::Remove(id) => {
                    self.objects.remove(&id);
                    Update::Remove(id)
                }
            };
            self.cluster.apply(&self.source, update, &mut dirty);
        }
        if batch.after_reset {
            let synced = Update::Synced(Completeness::Complete);
            self.cluster.apply(&self.source, synced, &mut dirty);
        }
        let (delta, warnings) = self.planner.plan(&self.cluster, dirty);
        self.merged.merge(delta.clone());
        for (service, check) in self.planner.take_health_changes() {
            match check {
                Some(check) => self.health.insert(service, check),
                None => self.health.remove(&service),
            };
        }
        (delta, warnings)
    }

    fn naive(&mut self) -> NaivePlan {
        self.naive.objects = self.objects.values().cloned().collect();
        self.naive.plan()
    }
}

/// What a Delta says there is; what it says is gone does not count.
fn standing(delta: &Delta) -> NaivePlan {
    let there = |(key, state): (&ServicePortKey, &Option<Arc<ServicePort>>)| {
        Some((key.clone(), state.as_deref()?.clone()))
    };
    let active = |(address, active): (&_, &bool)| active.then_some(*address);
    NaivePlan {
        node: delta.node.as_deref().cloned().unwrap_or_default(),
        cluster_ips: delta.cluster_ips.iter().filter_map(active).collect(),
        service_ports: delta.service_ports.iter().filter_map(there).collect(),
    }
}

type Counts = BTreeMap<ObjectName, (NonZeroU16, [Option<usize>; 2])>;

fn counts(health: &BTreeMap<ObjectName, HealthCheck>) -> Counts {
    let count = |check: &HealthCheck| Family::ALL.map(|family| check.local_endpoints(family));
    health.iter().map(|(name, check)| (name.clone(), (check.port, count(check)))).collect()
}

fn naive_counts(naive: &NaiveCluster) -> Counts {
    let checks = naive.health_checks().into_iter();
    let count = |addresses: &BTreeMap<Family, BTreeSet<IpAddr>>| {
        Family::ALL.map(|family| addresses.get(&family).map(BTreeSet::len))
    };
    checks.map(|(name, (port, addresses))| (name, (port, count(&addresses)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// After every batch: the plan is that of the naive implementation, and the Deltas so far are
    /// as one the Delta from nothing. A batch without effect says nothing, and again says nothing.
    #[test]
    fn plan_equals_naive_and_deltas_equal_the_full_state(
        batches in batches(), addresses in node_port_addresses(),
    ) {
        let mut world = World::new(addresses);
        for batch in batches {
            world.take(batch.clone());
            let full = world.planner.full();
            prop_assert_eq!(standing(&full), world.naive());
            prop_assert_eq!(counts(&world.health), naive_counts(&world.naive));
            prop_assert_eq!(standing(&world.merged), standing(&full));
            let again = Batch { after_reset: false, steps: world.objects.values().cloned().map(Step::Upsert).collect() };
            let (delta, warnings) = world.take(again);
            prop_assert!(delta.is_empty(), "{delta:?}");
            prop_assert!(warnings.is_empty(), "{warnings:?}");
        }
    }

    /// Any order of the same Updates, in any portions, gives the same plan.
    #[test]
    fn plan_does_not_depend_on_order(
        (one, other) in objects().prop_flat_map(|objects| {
            (Just(objects.clone()), Just(objects).prop_shuffle())
        }),
        portion in 1..8_usize,
    ) {
        let mut worlds = [one, other].map(|objects| {
            let mut world = World::new(NodePortAddresses::Primary);
            for steps in objects.chunks(portion) {
                let steps = steps.iter().cloned().map(Step::Upsert).collect();
                world.take(Batch { after_reset: false, steps });
            }
            world
        });
        prop_assert_eq!(worlds[0].planner.full(), worlds[1].planner.full());
        // What people are told in the end names the same owner, in whatever order it came.
        prop_assert_eq!(worlds[0].naive(), worlds[1].naive());
    }
}
