//! The loop.

use std::{
    future, mem, panic,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt as _,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::{
    sync::{mpsc, watch},
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Engine, EngineOptions, HealthChecks, Ineligible, Status,
    job::{self, Done},
    judge::Judge,
    kube_proxy::KubeProxyMeters,
    lane::Lane,
    meters::Meters,
    table::Table,
    waiting::{Progress, Trigger},
};
use crate::{
    backend::Bell,
    model::{Changes, Cluster, Dirty, Moment, PerFamily},
    plan::{Delta, PlanOptions, Planner},
    source::{
        Completeness, Object, ObjectId, ServiceSource, SourceError, SourceName, Update,
        UpdateSender,
    },
};

/// Updates that may wait for the engine, and that it takes in at once.
const QUEUE: usize = 4096;

/// Updates for which there is room between two bursts.
const SMALL_BATCH: usize = 64;

/// After so many updates a burst is applied although it has not ended.
const LONGEST_BURST: usize = 16 * QUEUE;

/// How long a job under way may take to end at shutdown. An apply that is dropped in the middle
/// leaves a valid state, but not the newest.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the engine until `shutdown`.
pub(super) async fn drive(engine: Engine, shutdown: CancellationToken) -> Result<(), SourceError> {
    let Engine { options, sources, backends, status, health_checks, notices } = engine;
    let (sender, mut queue) = mpsc::channel(QUEUE);
    let names = sources.iter().map(|(name, _)| name.clone()).collect();
    let stop_sources = shutdown.child_token();
    let mut sources = Sources::spawn(sources, &sender, &stop_sources);
    let kube_proxy = KubeProxyMeters::new();
    let lanes = backends.into_iter().map(|(name, backend)| {
        let status = status.borrow();
        let carries = |family| status.carriers(family).any(|(carrier, _)| carrier == name);
        let carries = PerFamily::of(carries);
        Lane::new(name, backend, &options, Table::new(carries, &kube_proxy))
    });
    let lanes = lanes.collect();
    let judge = Judge::new(options.patience(), notices);
    let mut state = State::new(names, lanes, status, health_checks, options, judge, kube_proxy);

    // Each in a task of its own, so that one which blocks holds up neither the loop nor another.
    let mut jobs: JoinSet<Done> = JoinSet::new();
    let mut bells: FuturesUnordered<_> = state
        .lanes
        .iter()
        .enumerate()
        .map(|(lane, known)| ring(lane, known.bell().clone()))
        .collect();
    let mut batch = Vec::new();
    let result = loop {
        for (index, lane) in state.lanes.iter_mut().enumerate() {
            if let Some((backend, task)) =
                lane.next_task(&state.planner, state.complete, &state.options)
            {
                jobs.spawn(job::perform(index, backend, task));
            }
        }
        let wake_at = state.lanes.iter().filter_map(Lane::wake_at).min();
        // What is done frees a backend, so it comes first; a bell that rings without end must not
        // keep updates from coming in.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            Some(done) = jobs.join_next() => state.finish(unwrapped(done)),
            Some(ended) = sources.ended() => {
                if let Err(error) = ended { break Err(error) }
            }
            _ = queue.recv_many(&mut batch, QUEUE) => {
                state.take_in(&mut batch);
                state.take_in_burst(&mut queue, &mut batch).await;
                batch.shrink_to(SMALL_BATCH);
                state.plan();
            }
            Some(lane) = bells.next() => {
                state.lanes[lane].want_verify();
                bells.push(ring(lane, state.lanes[lane].bell().clone()));
            }
            () = alarm(wake_at) => state.report(),
        }
    };
    stop_sources.cancel();
    let ending = async {
        while let Some(done) = jobs.join_next().await {
            state.finish(unwrapped(done));
        }
        while sources.ended().await.is_some() {}
    };
    if timeout(GRACE, ending).await.is_err() {
        warn!("a job or a source did not end in time and is dropped");
    }
    result
}

async fn ring(lane: usize, bell: Bell) -> usize {
    bell.rung().await;
    // The first ring woke us; those that came since are kept as one more, and are the same.
    let _ = bell.rung().now_or_never();
    lane
}

/// A backend that panics ends the agent, as if it had done so here: what it was in the middle of
/// is unknown, and the next agent takes over what is in the kernel.
fn unwrapped(done: Result<Done, JoinError>) -> Done {
    done.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

async fn alarm(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => future::pending().await,
    }
}

/// The sources, each in a task of its own: they do work of their own.
struct Sources {
    tasks: JoinSet<Result<(), SourceError>>,
    names: Vec<(Id, SourceName)>,
    /// Keeps the queue open when every source has ended.
    _sender: mpsc::Sender<(SourceName, Update)>,
}

impl Sources {
    fn spawn(
        sources: Vec<(SourceName, Box<dyn ServiceSource>)>,
        sender: &mpsc::Sender<(SourceName, Update)>,
        shutdown: &CancellationToken,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let mut names = Vec::new();
        for (name, source) in sources {
            let updates = UpdateSender::new(name.clone(), sender.clone());
            let handle = tasks.spawn(source.run(updates, shutdown.clone()));
            names.push((handle.id(), name));
        }
        Self { tasks, names, _sender: sender.clone() }
    }

    /// Waits until a source ends. That one ends well before shutdown is odd, but what it said
    /// stands.
    async fn ended(&mut self) -> Option<Result<(), SourceError>> {
        Some(match self.tasks.join_next_with_id().await? {
            Ok((id, result)) => {
                info!(source = self.name(id), "source ended");
                result
            }
            Err(error) => Err(self.panicked(error)),
        })
    }

    fn name(&self, id: Id) -> Option<tracing::field::DisplayValue<&SourceName>> {
        let name = self.names.iter().find(|(known, _)| *known == id);
        name.map(|(_, name)| tracing::field::display(name))
    }

    fn panicked(&self, error: JoinError) -> SourceError {
        let name = self.names.iter().find(|(known, _)| *known == error.id());
        let source_name = name.map_or_else(|| SourceName::new("?"), |(_, name)| name.clone());
        SourceError { source_name, cause: Box::new(error) }
    }
}

/// What the loop keeps.
struct State {
    options: EngineOptions,
    sources: Vec<SourceName>,
    cluster: Cluster,
    dirty: Dirty,
    planner: Planner,
    lanes: Vec<Lane>,
    status: watch::Sender<Status>,
    /// What was taken in so far; of changes, those that are planned.
    progress: Progress,
    /// What the slices tell of that are not planned yet, where it happened after the start.
    triggers: Vec<Trigger>,
    started_at: SystemTime,
    /// Whether every source has ended a complete list.
    complete: bool,
    health_checks: Arc<HealthChecks>,
    judge: Judge,
    meters: Meters,
    kube_proxy: KubeProxyMeters,
}

impl State {
    fn new(
        sources: Vec<SourceName>,
        lanes: Vec<Lane>,
        status: watch::Sender<Status>,
        health_checks: Arc<HealthChecks>,
        options: EngineOptions,
        judge: Judge,
        kube_proxy: KubeProxyMeters,
    ) -> Self {
        let plan_options = PlanOptions {
            node_port_addresses: options.node_port_addresses.clone(),
            node_ip: options.node_ip,
            cluster_cidrs: options.cluster_cidrs.clone(),
        };
        Self {
            cluster: Cluster::new(Arc::clone(&options.node_name)),
            dirty: Dirty::default(),
            planner: Planner::new(plan_options),
            options,
            sources,
            lanes,
            status,
            progress: Progress::default(),
            triggers: Vec::new(),
            started_at: SystemTime::now(),
            complete: false,
            health_checks,
            judge,
            meters: Meters::new(),
            kube_proxy,
        }
    }

    fn take_in(&mut self, batch: &mut Vec<(SourceName, Update)>) {
        self.progress.updates += batch.len() as u64;
        self.meters.updates.increment(batch.len() as u64);
        let mut seen = Changes::default();
        for (source, mut update) in batch.drain(..) {
            count(&update, &mut seen);
            let trigger = take_trigger(&mut update).filter(|it| it.at > self.started_at);
            let before = self.dirty.changes.slices;
            for warning in self.cluster.apply(&source, update, &mut self.dirty) {
                self.meters.warnings.increment(1);
                warn!("{warning}");
            }
            // A slice that is listed again tells of nothing new.
            if self.dirty.changes.slices > before {
                self.triggers.extend(trigger);
            }
        }
        self.kube_proxy.seen(seen);
    }

    /// Takes in the rest of a burst, so that it becomes one Delta. A source that waited for the
    /// queue gets the time to fill it again.
    async fn take_in_burst(
        &mut self,
        queue: &mut mpsc::Receiver<(SourceName, Update)>,
        batch: &mut Vec<(SourceName, Update)>,
    ) {
        let mut taken = QUEUE;
        while taken < LONGEST_BURST {
            while batch.len() < QUEUE
                && let Ok(update) = queue.try_recv()
            {
                batch.push(update);
            }
            if batch.is_empty() {
                return;
            }
            let was_full = batch.len() == QUEUE;
            taken += batch.len();
            self.take_in(batch);
            if was_full {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Plans what is dirty, once every source has listed what it has.
    fn plan(&mut self) {
        let synced = |name: &SourceName| self.cluster.synced(name);
        if self.sources.iter().all(|name| synced(name).is_some()) {
            let is_complete = |name| synced(name) == Some(Completeness::Complete);
            let complete = self.sources.iter().all(is_complete);
            let newly_complete = complete && !mem::replace(&mut self.complete, complete);
            let is_first = self.planner.is_fresh();
            let mut delta = self.plan_dirty();
            delta.complete = is_first && complete;
            if newly_complete && !is_first {
                self.lanes.iter_mut().for_each(Lane::want_all);
            }
            self.hand_out(delta);
        }
        self.report();
    }

    fn plan_dirty(&mut self) -> Delta {
        let begin = Instant::now();
        self.progress = self.seen();
        let (delta, warnings) = self.planner.plan(&self.cluster, mem::take(&mut self.dirty));
        let health_changes = self.planner.take_health_changes();
        if !health_changes.is_empty() || delta.node.is_some() {
            self.health_checks.take(health_changes, self.planner.node());
        }
        self.meters.plan_seconds.record(begin.elapsed());
        self.meters.warnings.increment(warnings.len() as u64);
        self.kube_proxy.no_local_endpoints(self.planner.no_local_endpoints());
        for warning in warnings {
            warn!("{warning}");
            self.judge.warn(&warning);
        }
        delta
    }

    /// What was taken in, and how many changes that were to be planned, or still are.
    const fn seen(&self) -> Progress {
        let Progress { updates, services, slices } = self.progress;
        let Changes { services: more_services, slices: more_slices } = self.dirty.changes;
        Progress { updates, services: services + more_services, slices: slices + more_slices }
    }

    fn hand_out(&mut self, delta: Delta) {
        let triggers = mem::take(&mut self.triggers);
        let delta = (!delta.is_empty()).then(|| Arc::new(delta));
        for lane in &mut self.lanes {
            lane.planned(delta.clone(), self.progress, &triggers);
        }
    }

    fn finish(&mut self, done: Done) {
        let lane = &mut self.lanes[done.lane];
        self.status.send_modify(|status| {
            let status = status.backends.entry(lane.name().to_owned()).or_default();
            lane.done(done.backend, done.outcome, status, self.judge.notices());
            lane.report(status);
        });
        lane.measure_pending(self.progress);
        self.judge.judge(&self.status.borrow());
    }

    fn report(&mut self) {
        let synced = !self.planner.is_fresh();
        self.meters.synced.set(f64::from(u8::from(synced)));
        self.status.send_modify(|status| {
            status.synced = synced;
            status.updates = self.progress.updates;
            // Before the first list has ended nobody knows.
            status.ineligible = if synced { Ineligible::of(self.cluster.node()) } else { None };
            for lane in &self.lanes {
                lane.report(status.backends.entry(lane.name().to_owned()).or_default());
            }
        });
        let seen = self.seen();
        self.lanes.iter().for_each(|lane| lane.measure_pending(seen));
        let status = self.status.borrow();
        self.meters.eligible.set(f64::from(u8::from(status.ineligible.is_none())));
        self.judge.judge(&status);
    }
}

/// Counts what a source names.
const fn count(update: &Update, seen: &mut Changes) {
    match update {
        Update::Upsert(Object::Service(_)) | Update::Remove(ObjectId::Service(_)) => {
            seen.services += 1;
        }
        Update::Upsert(Object::EndpointSlice(_)) | Update::Remove(ObjectId::EndpointSlice(_)) => {
            seen.slices += 1;
        }
        _ => (),
    }
}

/// Takes out of an update what is measured and not kept.
fn take_trigger(update: &mut Update) -> Option<Trigger> {
    let Update::Upsert(Object::EndpointSlice(slice)) = update else { return None };
    let at = slice.triggered.time()?;
    Arc::make_mut(slice).triggered = Moment::NONE;
    Some(Trigger { family: slice.family, at })
}
