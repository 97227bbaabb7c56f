//! What the engine knows of one backend, and what it has it do next.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as _,
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{
    BackendStatus, EngineOptions,
    backoff::Backoff,
    job::{Outcome, Task},
    meters::LaneMeters,
};
use crate::{
    backend::{ApplyReport, BackendError, Bell, LbBackend, LeftReason, Verdict},
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
    pending: Option<Delta>,
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
    /// The number of updates that are planned, and that the apply under way brings in.
    planned: u64,
    applying: Option<u64>,
    applied: u64,
    /// Why start or the last apply failed, and what the last verify found.
    fault: Option<String>,
    findings: Vec<String>,
    /// What the backend is busy with, since when, and for how long that is no trouble.
    busy: Option<(&'static str, Instant)>,
    patience: Duration,
    meters: LaneMeters,
}

impl Lane {
    pub(super) fn new(name: String, backend: Box<dyn LbBackend>, options: &EngineOptions) -> Self {
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
            planned: 0,
            applying: None,
            applied: 0,
            fault: None,
            findings: Vec::new(),
            busy: None,
            patience: options.patience(),
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

    /// The desired state changed; it now stands for that number of updates.
    pub(super) fn planned(&mut self, delta: Option<Delta>, updates: u64) {
        self.planned = updates;
        if let Some(delta) = delta {
            // What a backend waits for is often a matter of the node, such as its pod CIDRs.
            if self.fault.is_some() && self.started && delta.node.is_some() {
                self.not_before = Instant::now();
            }
            match &mut self.pending {
                Some(pending) => pending.merge(delta),
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
            self.applying = Some(self.planned);
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

    fn take_delta(&mut self, planner: &Planner, all: bool, now: Instant) -> Option<Delta> {
        if self.needs_all && !planner.is_fresh() {
            self.needs_all = false;
            self.pending = Some(Delta { complete: all, ..planner.full() });
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            let again = &mut self.pending.get_or_insert_default().service_ports;
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
        let has_work = self.pending.is_some() || (self.needs_all && self.planned > 0);
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
    ) {
        self.backend = Some(backend);
        self.busy = None;
        match outcome {
            Outcome::Started(result) => self.tried_to_start(result),
            Outcome::Applied { delta, report, took } => {
                self.meters.applied(report.is_success(), took);
                self.take_left(&delta, &report, status);
                self.take_report(delta, report);
            }
            Outcome::Verified(verdict) => self.take_verdict(verdict),
        }
        self.settle();
    }

    /// Writes down how the backend stands, and says what is newly wrong.
    pub(super) fn report(&self, status: &mut BackendStatus) {
        status.started = self.started;
        status.applied = self.applied;
        status.failed = self.failed.len();
        let problems = self.problems();
        for problem in problems.iter().filter(|problem| !status.problems.contains(problem)) {
            error!(backend = self.name, "{problem}");
        }
        if problems.is_empty() && !status.problems.is_empty() {
            info!(backend = self.name, "healthy again");
        }
        let is_troubled = !problems.is_empty();
        status.troubled_since =
            is_troubled.then(|| status.troubled_since.unwrap_or_else(Instant::now));
        status.problems = problems;
        let pending = self.pending.as_ref().map_or(0, |delta| delta.service_ports.len());
        self.meters.stand(pending, status.failed, status.left.len(), status.problems.len());
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

    fn take_report(&mut self, mut delta: Delta, report: ApplyReport) {
        let now = Instant::now();
        let brought = self.applying.take();
        if let Some(error) = report.error {
            self.fault = Some(format!("not applied: {}", chain(&error)));
            if let Some(later) = self.pending.take() {
                delta.merge(later);
            }
            self.pending = Some(delta);
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
        if self.failed.is_empty() {
            self.backoff.reset();
            self.retry_at = None;
            self.applied = brought.map_or(self.applied, |brought| self.applied.max(brought));
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
        }
    }

    fn take_left(&self, delta: &Delta, report: &ApplyReport, status: &mut BackendStatus) {
        // Most clusters and most changes have nothing to do with what is left.
        if report.error.is_some() || (report.left.is_empty() && status.left.is_empty()) {
            return;
        }
        let left = Arc::make_mut(&mut status.left);
        let before = if delta.complete { std::mem::take(left) } else { HashMap::new() };
        for key in delta.service_ports.keys() {
            let was = left.remove(key).or_else(|| before.get(key).cloned());
            let is = report.left.get(key);
            if was.as_ref() != is {
                self.say_left(key, is);
            }
            if let Some(reason) = is {
                left.insert(key.clone(), reason.clone());
            }
        }
        for key in &report.taken {
            if left.remove(key).is_some() {
                self.say_left(key, None);
            }
        }
    }

    fn say_left(&self, key: &ServicePortKey, reason: Option<&LeftReason>) {
        match reason {
            Some(reason) => info!(backend = self.name, "{key} is left to others: {reason}"),
            None => info!(backend = self.name, "{key} is no longer left to others"),
        }
    }

    /// Where nothing is left to do, everything planned is in the kernel: a plan that changes
    /// nothing needs no apply.
    fn settle(&mut self) {
        let is_idle = self.pending.is_none() && !self.needs_all && self.applying.is_none();
        if is_idle && self.failed.is_empty() {
            self.applied = self.planned;
        }
    }

    fn problems(&self) -> Vec<String> {
        let named = self.failed.iter().take(NAMED_FAILURES);
        let failures = named.map(|(key, error)| format!("{key} not applied: {error}"));
        let more = self.failed.len().saturating_sub(NAMED_FAILURES);
        let more = (more > 0).then(|| format!("{more} more ServicePorts not applied"));
        let late = self.busy.filter(|(_, since)| since.elapsed() >= self.patience);
        let late = late.map(|(task, _)| {
            format!("busy with one {task} for more than {} s", self.patience.as_secs())
        });
        let fault = late.into_iter().chain(self.fault.iter().cloned());
        fault.chain(failures).chain(more).chain(self.findings.iter().cloned()).collect()
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
