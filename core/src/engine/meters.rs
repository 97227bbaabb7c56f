//! What the engine counts, under the prefix `shunt_`.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use super::Health;
use crate::model::Family;

/// What the engine counts over all backends.
pub(super) struct Meters {
    pub(super) updates: Counter,
    pub(super) warnings: Counter,
    pub(super) plan_seconds: Histogram,
    pub(super) synced: Gauge,
    pub(super) eligible: Gauge,
}

impl Meters {
    pub(super) fn new() -> Self {
        describe_counter!("shunt_updates_total", "Updates taken in from the sources.");
        describe_counter!("shunt_warnings_total", "Warnings about objects.");
        describe_histogram!("shunt_plan_seconds", Unit::Seconds, "Time of one plan.");
        describe_gauge!("shunt_synced", "1 once every source has listed everything.");
        describe_gauge!("shunt_node_eligible", "0 where the own Node is missing or to be deleted.");
        describe_gauge!(
            "shunt_health",
            "1 for the way in which a family stands: healthy, degraded or unhealthy."
        );
        Family::ALL.into_iter().for_each(|family| Self::health(family, Health::Healthy));
        LaneMeters::describe();
        Self {
            updates: counter!("shunt_updates_total"),
            warnings: counter!("shunt_warnings_total"),
            plan_seconds: histogram!("shunt_plan_seconds"),
            synced: gauge!("shunt_synced"),
            eligible: gauge!("shunt_node_eligible"),
        }
    }
}

impl Meters {
    /// A family stands in one of three ways.
    pub(super) fn health(family: Family, health: Health) {
        for state in [Health::Healthy, Health::Degraded, Health::Unhealthy] {
            let labels = [("ip_family", family.to_string()), ("state", state.to_string())];
            gauge!("shunt_health", &labels).set(f64::from(u8::from(state == health)));
        }
    }
}

/// What the engine counts of one backend.
pub(super) struct LaneMeters {
    applies: Counter,
    failed_applies: Counter,
    apply_seconds: Histogram,
    verifies: Counter,
    repairs: Counter,
    pending: Gauge,
    failed: Gauge,
    left: Gauge,
    pub(super) full: Gauge,
    problems: Gauge,
}

impl LaneMeters {
    fn describe() {
        describe_counter!("shunt_applies_total", "Deltas given to a backend, by result.");
        describe_histogram!("shunt_apply_seconds", Unit::Seconds, "Time of one apply.");
        describe_counter!("shunt_verifies_total", "Proofs asked of a backend.");
        describe_counter!("shunt_repairs_total", "What a verify found wrong and mended.");
        describe_gauge!("shunt_pending", "ServicePorts that wait for a backend.");
        describe_gauge!("shunt_failed", "ServicePorts that a backend failed to apply.");
        describe_gauge!("shunt_left", "ServicePorts that a backend leaves to others.");
        describe_gauge!(
            "shunt_full",
            "ServicePorts that a backend leaves to others because a table of the kernel is full."
        );
        describe_gauge!("shunt_problems", "Problems of a backend; 0 if it is healthy.");
    }

    pub(super) fn new(backend: &str) -> Self {
        let backend = backend.to_owned();
        Self {
            applies: counter!("shunt_applies_total", "backend" => backend.clone(), "result" => "ok"),
            failed_applies: counter!(
                "shunt_applies_total", "backend" => backend.clone(), "result" => "failed"
            ),
            apply_seconds: histogram!("shunt_apply_seconds", "backend" => backend.clone()),
            verifies: counter!("shunt_verifies_total", "backend" => backend.clone()),
            repairs: counter!("shunt_repairs_total", "backend" => backend.clone()),
            pending: gauge!("shunt_pending", "backend" => backend.clone()),
            failed: gauge!("shunt_failed", "backend" => backend.clone()),
            left: gauge!("shunt_left", "backend" => backend.clone()),
            full: gauge!("shunt_full", "backend" => backend.clone()),
            problems: gauge!("shunt_problems", "backend" => backend),
        }
    }

    pub(super) fn applied(&self, success: bool, took: Duration) {
        let counter = if success { &self.applies } else { &self.failed_applies };
        counter.increment(1);
        self.apply_seconds.record(took);
    }

    pub(super) fn verified(&self, repairs: usize) {
        self.verifies.increment(1);
        self.repairs.increment(repairs as u64);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay below 2^53")]
    pub(super) fn stand(&self, pending: usize, failed: usize, left: usize, problems: usize) {
        self.pending.set(pending as f64);
        self.failed.set(failed as f64);
        self.left.set(left as f64);
        self.problems.set(problems as f64);
    }
}
