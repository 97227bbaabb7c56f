//! What the engine knows of one backend, and what it has it do next.

use std::{collections::BTreeMap, error::Error as _, fmt::Write as _, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{
    BackendStatus, EngineOptions,
    backoff::Backoff,
    job::{Outcome, Task},
    left::Left,
    meters::LaneMeters,
    table::Table,
    waiting::{Progress, Trigger, families},
};
use crate::{
    backend::{ApplyReport, BackendError, Bell, LbBackend, Verdict},
    model::PerFamily,
    notice::Notices,
    plan::{Delta, Planner, ServicePortKey},
};

/// One backend, apart from all others.
pub(super) struct Lane {
    name: String,
    /// `None` while a job has it.
    backend: Option<Box<dyn LbBackend>>,
    bell: Bell,
    started: bool,
    /// What is not in the kernel yet and not being brought there.
    pending: Option<Arc<Delta>>,
    /// Whether the backend needs the whole desired state, whatever is pending.
    needs_all: bool,
    /// ServicePorts that the backend could not take, and why.
    failed: BTreeMap<ServicePortKey, String>,
    /// When the failed ones are tried again.
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// Neither start nor apply before this.
    not_before: Instant,
    verify_at: Instant,
    verify_wanted: bool,
    /// A bell that rings without end must not keep the backend from applying.
    verified_last: bool,
    table: Table,
    /// Why start or the last apply failed, and what the last verify found.
    fault: Option<String>,
    findings: Vec<String>,
    /// What the backend is busy with, since when, and for how long that is no trouble.
    busy: Option<(&'static str, Instant)>,
    patience: Duration,
    meters: LaneMeters,
    left: Left,
}

impl Lane {
    pub(super) fn new(
        name: String,
        backend: Box<dyn LbBackend>,
        options: &EngineOptions,
        table: Table,
    ) -> Self {
        let now = Instant::now();
        Self {
            meters: LaneMeters::new(&name),
            name,
            backend: Some(backend),
            bell: Bell::default(),
            started: false,
            pending: None,
            needs_all: false,
            failed: BTreeMap::new(),
            retry_at: None,
            backoff: Backoff::new(),
            not_before: now,
            verify_at: now + options.verify_period,
            verify_wanted: false,
            verified_last: false,
            table,
            fault: None,
            findings: Vec::new(),
            busy: None,
            patience: options.patience(),
            left: Left::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Someone changed the kernel's state.
    pub(super) const fn want_verify(&mut self) {
        self.verify_wanted = true;
    }

    /// The whole desired state is to be applied anew.
    pub(super) const fn want_all(&mut self) {
        self.needs_all = true;
    }

    /// The desired state changed; it now stands for that many updates, and these triggers among
    /// them.
    pub(super) fn planned(
        &mut self,
        delta: Option<Arc<Delta>>,
        progress: Progress,
        triggers: &[Trigger],
    ) {
        self.table.planned(progress, triggers);
        if let Some(delta) = delta {
            self.table.queue(families(&delta));
            // What a backend waits for is often a matter of the node, such as its pod CIDRs.
            if self.fault.is_some() && self.started && delta.node.is_some() {
                self.not_before = Instant::now();
            }
            match &mut self.pending {
                Some(pending) => Arc::make_mut(pending).merge(Arc::unwrap_or_clone(delta)),
                None => self.pending = Some(delta),
            }
        }
        self.settle();
    }

    /// What the backend should do now, if it is free and there is something.
    ///
    /// `all` is whether a Delta of everything may remove what an earlier run left.
    pub(super) fn next_task(
        &mut self,
        planner: &Planner,
        all: bool,
        options: &EngineOptions,
    ) -> Option<(Box<dyn LbBackend>, Task)> {
        let backend = self.backend.take()?;
        let task = self.choose(planner, all, options);
        if task.is_none() {
            self.backend = Some(backend);
            return None;
        }
        self.busy = task.as_ref().map(|task| (task.name(), Instant::now()));
        task.map(|task| (backend, task))
    }

    fn choose(&mut self, planner: &Planner, all: bool, options: &EngineOptions) -> Option<Task> {
        let now = Instant::now();
        let may_write = now >= self.not_before;
        if !self.started {
            return may_write.then(|| Task::Start(self.bell.clone()));
        }
        let verify_first = self.verify_wanted && !self.verified_last;
        if !verify_first
            && may_write
            && let Some(delta) = self.take_delta(planner, all, now)
        {
            self.verified_last = false;
            self.table.begin();
            self.not_before = now + options.min_sync_period;
            return Some(Task::Apply(delta));
        }
        if self.verify_wanted || now >= self.verify_at {
            self.verified_last = true;
            self.verify_wanted = false;
            self.verify_at = now + options.verify_period;
            return Some(Task::Verify);
        }
        None
    }

    fn take_delta(&mut self, planner: &Planner, all: bool, now: Instant) -> Option<Arc<Delta>> {
        if self.needs_all && !planner.is_fresh() {
            self.needs_all = false;
            self.pending = Some(Arc::new(Delta { complete: all, ..planner.full() }));
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            let again = &mut Arc::make_mut(self.pending.get_or_insert_default()).service_ports;
            for key in self.failed.keys() {
                let state = || planner.service_port(key).cloned();
                again.entry(key.clone()).or_insert_with(state);
            }
        }
        self.pending.take()
    }

    /// When there will be something to do that no event announces.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        if self.backend.is_none() {
            // Once, when it has taken too long; then it is known.
            let late = self.busy.map(|(_, since)| since + self.patience);
            return late.filter(|late| *late > Instant::now());
        }
        if !self.started {
            return Some(self.not_before);
        }
        // Before the first plan there is no "all" yet; the plan is then an event of its own.
        let has_work = self.pending.is_some() || (self.needs_all && self.table.has_plan());
        let write = has_work.then_some(self.not_before);
        let retry = self.retry_at.map(|at| at.max(self.not_before));
        [write, retry].into_iter().flatten().chain([self.verify_at]).min()
    }

    /// Takes in what came of a task.
    pub(super) fn done(
        &mut self,
        backend: Box<dyn LbBackend>,
        outcome: Outcome,
        status: &mut BackendStatus,
        notices: &Notices,
    ) {
        self.backend = Some(backend);
        self.busy = None;
        match outcome {
            Outcome::Started(result) => self.tried_to_start(result),
            Outcome::Applied { delta, report, took } => {
                self.meters.applied(report.is_success(), took);
                if report.error.is_none() {
                    self.left.take(&self.name, &delta, &report, &mut status.left, notices);
                }
                self.table.measure(&delta, &report, took);
                self.take_report(delta, report);
            }
            Outcome::Verified(verdict) => self.take_verdict(verdict),
        }
        self.settle();
    }

    /// Writes down how the backend stands, and says what is newly wrong.
    pub(super) fn report(&self, status: &mut BackendStatus) {
        status.started = self.started;
        status.start_failed = !self.started && self.fault.is_some();
        status.applied = self.table.applied();
        status.failed = self.failed.len();
        status.families = self.table.status(self.failed.keys());
        let problems = self.problems();
        for problem in problems.iter().filter(|problem| !status.problems.contains(problem)) {
            error!(backend = self.name, "{problem}");
        }
        if problems.is_empty() && !status.problems.is_empty() {
            info!(backend = self.name, "healthy again");
        }
        let has_fault = self.faults().next().is_some();
        status.fault_since = has_fault.then(|| status.fault_since.unwrap_or_else(Instant::now));
        status.problems = problems;
        let pending = self.pending.as_ref().map_or(0, |delta| delta.service_ports.len());
        self.meters.stand(pending, status.failed, status.left.len(), status.problems.len());
        self.meters.full.set(self.left.for_want_of_room());
    }

    /// Measures how many changes wait for this backend, of those that were seen.
    pub(super) fn measure_pending(&self, seen: Progress) {
        self.table.measure_pending(seen);
    }

    fn tried_to_start(&mut self, result: Result<(), BackendError>) {
        match result {
            Ok(()) => {
                self.started = true;
                self.fault = None;
                self.backoff.reset();
                info!(backend = self.name, "started");
            }
            Err(error) => {
                self.fault = Some(format!("not started: {}", chain(&error)));
                self.not_before = Instant::now() + self.backoff.wait();
            }
        }
    }

    fn take_report(&mut self, mut delta: Arc<Delta>, report: ApplyReport) {
        let now = Instant::now();
        if let Some(error) = report.error {
            self.fault = Some(format!("not applied: {}", chain(&error)));
            if let Some(later) = self.pending.take() {
                Arc::make_mut(&mut delta).merge(Arc::unwrap_or_clone(later));
            }
            self.pending = Some(delta);
            self.table.refuse();
            self.not_before = self.not_before.max(now + self.backoff.wait());
            return;
        }
        self.fault = None;
        if delta.complete {
            self.failed.clear();
        } else if !self.failed.is_empty() {
            self.failed.retain(|key, _| !delta.service_ports.contains_key(key));
        }
        if !report.failed.is_empty() {
            let at = now + self.backoff.wait();
            self.retry_at.get_or_insert(at);
            let failed = report.failed.into_iter().map(|(key, error)| (key, chain(&error)));
            self.failed.extend(failed);
        }
        self.table.end(self.failed.keys());
        if self.failed.is_empty() {
            self.backoff.reset();
            self.retry_at = None;
        }
    }

    fn take_verdict(&mut self, verdict: Verdict) {
        self.meters.verified(verdict.repaired.len());
        for repaired in verdict.repaired {
            warn!(backend = self.name, "mended: {repaired}");
        }
        self.findings = verdict.problems;
        if verdict.reapply {
            warn!(backend = self.name, "the kernel's state was lost and is written anew");
            self.needs_all = true;
            self.table.queue(PerFamily::of(|_| true));
        } else if self.findings.is_empty() && self.pending.is_none() && !self.needs_all {
            self.table.find_current(self.failed.keys());
        }
    }

    /// Where nothing is left to do, everything planned is in the kernel: a plan that changes
    /// nothing needs no apply.
    fn settle(&mut self) {
        let is_idle = self.pending.is_none() && !self.needs_all && !self.table.is_being_applied();
        if is_idle && self.failed.is_empty() {
            self.table.settle();
        }
    }

    fn problems(&self) -> Vec<String> {
        let named = self.failed.iter().take(NAMED_FAILURES);
        let failures = named.map(|(key, error)| format!("{key} not applied: {error}"));
        let more = self.failed.len().saturating_sub(NAMED_FAILURES);
        let more = (more > 0).then(|| format!("{more} more ServicePorts not applied"));
        self.faults().chain(failures).chain(more).collect()
    }

    /// What is wrong that is no matter of single ServicePorts.
    fn faults(&self) -> impl Iterator<Item = String> {
        let late = self.busy.filter(|(_, since)| since.elapsed() >= self.patience);
        let late = late.map(|(task, _)| {
            format!("busy with one {task} for more than {} s", self.patience.as_secs())
        });
        late.into_iter().chain(self.fault.iter().cloned()).chain(self.findings.iter().cloned())
    }
}

/// So many ServicePorts that failed are named as problems; a list of thousands helps nobody.
const NAMED_FAILURES: usize = 5;

/// An error and its causes, in one line.
fn chain(error: &BackendError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
