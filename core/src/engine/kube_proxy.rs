//! What the engine measures under kube-proxy's names, so that dashboards and alerts go on.
//!
//! kube-proxy has one proxier for each family; an apply of ours brings in both, and counts for
//! every family of which it changes something.
//! Only the backend that carries the whole table is measured; others are seen under our own names.

use std::time::{Duration, SystemTime};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use super::waiting::{Progress, Trigger};
use crate::{
    model::{Changes, Family, PerFamily},
    plan::NoLocalEndpoints,
};

/// What the engine measures under kube-proxy's names. Clones are handles of the same metrics.
#[derive(Clone)]
pub(super) struct KubeProxyMeters {
    families: PerFamily<FamilyMeters>,
    services: Counter,
    slices: Counter,
    services_pending: Gauge,
    slices_pending: Gauge,
}

#[derive(Clone)]
struct FamilyMeters {
    sync: Histogram,
    full_sync: Histogram,
    partial_sync: Histogram,
    programming: Histogram,
    synced_at: Gauge,
    queued_at: Gauge,
    failures: Counter,
    no_local_internal: Gauge,
    no_local_external: Gauge,
}

impl KubeProxyMeters {
    pub(super) fn new() -> Self {
        describe();
        Self {
            families: PerFamily::of(FamilyMeters::new),
            services: counter!("kubeproxy_sync_proxy_rules_service_changes_total"),
            slices: counter!("kubeproxy_sync_proxy_rules_endpoint_changes_total"),
            services_pending: gauge!("kubeproxy_sync_proxy_rules_service_changes_pending"),
            slices_pending: gauge!("kubeproxy_sync_proxy_rules_endpoint_changes_pending"),
        }
    }

    /// So many objects were named by the sources.
    pub(super) fn seen(&self, changes: Changes) {
        self.services.increment(changes.services);
        self.slices.increment(changes.slices);
    }

    /// These changes were seen, and those of them are in the kernel.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay below 2^53")]
    pub(super) fn pending(&self, seen: Progress, applied: Progress) {
        self.services_pending.set(seen.services.saturating_sub(applied.services) as f64);
        self.slices_pending.set(seen.slices.saturating_sub(applied.slices) as f64);
    }

    /// ServicePorts whose policy asks for endpoints of this node, of which it has none.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay below 2^53")]
    pub(super) fn no_local_endpoints(&self, counts: PerFamily<NoLocalEndpoints>) {
        for family in Family::ALL {
            let meters = &self.families[family];
            meters.no_local_internal.set(counts[family].internal as f64);
            meters.no_local_external.set(counts[family].external as f64);
        }
    }

    /// A change of this family is to be applied.
    pub(super) fn queued(&self, family: Family) {
        self.families[family].queued_at.set(now());
    }

    /// An apply that changes something of this family took so long, whatever came of it.
    pub(super) fn applied(&self, family: Family, is_full: bool, took: Duration) {
        let meters = &self.families[family];
        meters.sync.record(took);
        let kind = if is_full { &meters.full_sync } else { &meters.partial_sync };
        kind.record(took);
    }

    /// An apply did not bring in all of this family.
    pub(super) fn failed(&self, family: Family) {
        self.families[family].failures.increment(1);
    }

    /// The kernel has been found to have everything of this family.
    pub(super) fn current(&self, family: Family) {
        self.families[family].synced_at.set(now());
    }

    /// What a trigger changed is in the kernel.
    pub(super) fn programmed(&self, trigger: Trigger) {
        // Clocks of two machines: what seems to come from the future took no time.
        let took = SystemTime::now().duration_since(trigger.at).unwrap_or_default();
        self.families[trigger.family].programming.record(took);
    }
}

impl FamilyMeters {
    fn new(family: Family) -> Self {
        let label = || ("ip_family", family.to_string());
        let no_local = |policy: &'static str| {
            let labels = [label(), ("traffic_policy", policy.to_owned())];
            gauge!("kubeproxy_sync_proxy_rules_no_local_endpoints_total", &labels)
        };
        let label = [label()];
        Self {
            sync: histogram!("kubeproxy_sync_proxy_rules_duration_seconds", &label),
            full_sync: histogram!("kubeproxy_sync_full_proxy_rules_duration_seconds", &label),
            partial_sync: histogram!("kubeproxy_sync_partial_proxy_rules_duration_seconds", &label),
            programming: histogram!("kubeproxy_network_programming_duration_seconds", &label),
            synced_at: gauge!("kubeproxy_sync_proxy_rules_last_timestamp_seconds", &label),
            queued_at: gauge!("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", &label),
            failures: counter!("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", &label),
            no_local_internal: no_local("internal"),
            no_local_external: no_local("external"),
        }
    }
}

fn now() -> f64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_secs_f64()
}

fn describe() {
    const SECONDS: Unit = Unit::Seconds;
    describe_histogram!(
        "kubeproxy_sync_proxy_rules_duration_seconds",
        SECONDS,
        "Time of an apply by the backend that carries the whole table."
    );
    describe_histogram!(
        "kubeproxy_sync_full_proxy_rules_duration_seconds",
        SECONDS,
        "Time of an apply of everything."
    );
    describe_histogram!(
        "kubeproxy_sync_partial_proxy_rules_duration_seconds",
        SECONDS,
        "Time of an apply of what changed."
    );
    describe_histogram!(
        "kubeproxy_network_programming_duration_seconds",
        SECONDS,
        "Time from the change in the cluster that an EndpointSlice tells of until the kernel has it."
    );
    describe_gauge!(
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        SECONDS,
        "When the kernel was last found to have everything."
    );
    describe_gauge!(
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        SECONDS,
        "When a change was last queued for the kernel."
    );
    describe_counter!(
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
        "Applies by the backend that carries the whole table that failed, wholly or in part."
    );
    describe_gauge!(
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "Service ports with a Local traffic policy and no endpoint on this node."
    );
    describe_counter!(
        "kubeproxy_sync_proxy_rules_service_changes_total",
        "Changes of Services that were seen."
    );
    describe_counter!(
        "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        "Changes of EndpointSlices that were seen."
    );
    describe_gauge!(
        "kubeproxy_sync_proxy_rules_service_changes_pending",
        "Changes of Services that are not in the kernel yet."
    );
    describe_gauge!(
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        "Changes of EndpointSlices that are not in the kernel yet."
    );
}
