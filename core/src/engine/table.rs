//! What a backend's table has of the desired state, by family, and what is measured of that.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    FamilyStatus,
    kube_proxy::KubeProxyMeters,
    waiting::{Progress, Trigger, Waiting, families},
};
use crate::{
    backend::ApplyReport,
    model::{Family, PerFamily},
    plan::{Delta, ServicePortKey},
};

/// What a backend's table has.
pub(super) struct Table {
    /// What is planned, and what the apply under way brings in.
    planned: Progress,
    applying: Option<Progress>,
    applied: Progress,
    waiting: Waiting,
    /// When the kernel was last found to have everything.
    current_at: PerFamily<Option<Instant>>,
    /// The families of which it is the whole table: these are measured under kube-proxy's names.
    carries: PerFamily<bool>,
    meters: KubeProxyMeters,
}

impl Table {
    pub(super) fn new(carries: PerFamily<bool>, meters: &KubeProxyMeters) -> Self {
        Self {
            planned: Progress::default(),
            applying: None,
            applied: Progress::default(),
            waiting: Waiting::default(),
            current_at: PerFamily::default(),
            carries,
            meters: meters.clone(),
        }
    }

    /// The number of updates up to which everything is in the kernel.
    pub(super) const fn applied(&self) -> u64 {
        self.applied.updates
    }

    /// Whether anything was ever planned.
    pub(super) const fn has_plan(&self) -> bool {
        self.planned.updates > 0
    }

    pub(super) const fn is_being_applied(&self) -> bool {
        self.applying.is_some()
    }

    /// The desired state stands for that many updates, and these triggers among them.
    pub(super) fn planned(&mut self, progress: Progress, triggers: &[Trigger]) {
        self.planned = progress;
        self.waiting.remember(progress.updates, triggers);
    }

    /// A change of these families is to be applied.
    pub(super) fn queue(&mut self, families: PerFamily<bool>) {
        self.waiting.queue(families, Instant::now());
        for family in self.carried(families) {
            self.meters.queued(family);
        }
    }

    /// What waits is being applied.
    pub(super) fn begin(&mut self) {
        self.applying = Some(self.planned);
        self.waiting.begin();
    }

    /// Nothing of what was being applied is in the kernel.
    pub(super) fn refuse(&mut self) {
        self.applying = None;
        self.waiting.refuse();
    }

    /// What was being applied is in the kernel, but for these ServicePorts.
    pub(super) fn end<'a>(&mut self, failed: impl Iterator<Item = &'a ServicePortKey> + Clone) {
        let brought = self.applying.take();
        self.waiting.end(failed.clone(), Instant::now());
        self.find_current(failed.clone());
        if failed.count() == 0 {
            self.arrive(brought);
        }
    }

    /// Everything that was planned is in the kernel.
    pub(super) fn settle(&mut self) {
        self.waiting.settle();
        self.arrive(Some(self.planned));
    }

    /// The kernel was found to have everything that it was given, but for these ServicePorts.
    pub(super) fn find_current<'a>(
        &mut self,
        failed: impl Iterator<Item = &'a ServicePortKey> + Clone,
    ) {
        let now = Instant::now();
        let current = PerFamily::of(|family| failed.clone().all(|key| key.family != family));
        for family in Family::ALL.into_iter().filter(|family| current[*family]) {
            self.current_at[family] = Some(now);
        }
        for family in self.carried(current) {
            self.meters.current(family);
        }
    }

    /// Measures an apply that is done.
    pub(super) fn measure(&self, delta: &Delta, report: &ApplyReport, took: Duration) {
        for family in self.carried(families(delta)) {
            self.meters.applied(family, delta.complete, took);
            let is_of_family = |key: &ServicePortKey| key.family == family;
            if report.error.is_some() || report.failed.keys().any(is_of_family) {
                self.meters.failed(family);
            }
        }
    }

    /// Measures how many changes wait, of those that were seen.
    pub(super) fn measure_pending(&self, seen: Progress) {
        if self.carried(PerFamily::of(|_| true)).next().is_some() {
            self.meters.pending(seen, self.applied);
        }
    }

    /// How each family stands, where these ServicePorts failed.
    pub(super) fn status<'a>(
        &self,
        failed: impl Iterator<Item = &'a ServicePortKey> + Clone,
    ) -> PerFamily<FamilyStatus> {
        PerFamily::of(|family| FamilyStatus {
            waiting_since: self.waiting.since(family),
            failed: failed.clone().filter(|key| key.family == family).count(),
            current_at: self.current_at[family],
        })
    }

    fn carried(&self, families: PerFamily<bool>) -> impl Iterator<Item = Family> + use<> {
        let carries = self.carries;
        Family::ALL.into_iter().filter(move |family| families[*family] && carries[*family])
    }

    /// Everything up to there is in the kernel.
    fn arrive(&mut self, brought: Option<Progress>) {
        let Some(brought) = brought.filter(|to| to.updates > self.applied.updates) else { return };
        self.applied = brought;
        for trigger in self.waiting.arrived(brought.updates) {
            if self.carries[trigger.family] {
                self.meters.programmed(trigger);
            }
        }
    }
}
