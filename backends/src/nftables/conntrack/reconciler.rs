//! What an apply means for the flows under way.

use std::{
    collections::HashMap,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use shunt_core::{
    Delta,
    backend::ApplyReport,
    model::Family,
    plan::{Frontend, ServicePortKey},
};
use tokio::{
    sync::{Mutex, Notify},
    task::AbortHandle,
    time::sleep,
};
use tracing::{info, warn};

use super::{
    ledger::Ledger,
    netlink::{FlowError, Netlink},
    stale::{Flow, Question},
};

/// A look is followed by a rest of this many times its length: it walks through all flows of the
/// node, and may not take a processor for itself where endpoints change all the time.
const REST: u32 = 9;

/// The kernel's flows, or a test's.
#[async_trait]
pub(super) trait Flows: Send + Sync {
    /// The flows that a question asks for, and possibly others.
    async fn ask(&mut self, question: Question) -> Result<Vec<Flow>, FlowError>;

    /// Deletes a flow. Returns whether it was still there.
    async fn delete(&mut self, flow: &Flow) -> Result<bool, FlowError>;
}

/// Deletes the UDP flows that applies made stale, and no others.
///
/// It does so in a task of its own: a look at the kernel's flows walks through all of the node's,
/// and no apply waits for that. Changes that come during a look are looked at together by the next.
///
/// # What it needs from the backend
///
/// - [`Self::adopt`] at start: the UDP frontends that were read back from the kernel, so that
///   flows of a Service which went while no agent ran are found too. Without it those stay until
///   they time out; nothing else is lost.
/// - [`Self::after`] after *every* apply, with the Delta and the finished report: what failed is
///   left out. It looks at the kernel only if a UDP ServicePort is among what was applied, and
///   before the first complete Delta never: as long as the endpoints are not all known, every
///   flow may be one that must stay.
/// - [`Self::retry`] from `verify`: what the kernel refused is tried again.
///
/// It never returns an error: the rules are right, and stale flows are no reason to apply them
/// again. What goes wrong is logged once and retried.
pub struct Reconciler {
    ledger: Arc<Mutex<Ledger>>,
    wake: Arc<Notify>,
    task: AbortHandle,
}

impl Reconciler {
    /// Over the kernel's flows of this network namespace; the socket is opened when it is needed.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, where its task would have nowhere to run.
    #[must_use]
    pub fn start() -> Self {
        let ledger = Arc::default();
        let wake = Arc::default();
        let walk = follow(Arc::clone(&ledger), Arc::clone(&wake));
        Self { ledger, wake, task: tokio::spawn(walk).abort_handle() }
    }

    /// Takes over the frontends that an earlier run left in the kernel.
    pub async fn adopt(&self, left: impl IntoIterator<Item = (ServicePortKey, Vec<Frontend>)>) {
        self.ledger.lock().await.adopt(left);
    }

    /// Has the flows of the UDP ServicePorts that an apply changed looked at, soon.
    pub async fn after(&self, delta: &Delta, report: &ApplyReport) {
        self.ledger.lock().await.note(delta, report);
        self.retry().await;
    }

    /// Has looked at again what could not be looked at; does nothing if there is nothing left.
    pub async fn retry(&self) {
        if self.ledger.lock().await.has_more() {
            self.wake.notify_one();
        }
    }
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks whenever there is something to look at.
async fn follow(ledger: Arc<Mutex<Ledger>>, wake: Arc<Notify>) {
    let mut walker = Walker::over(Box::new(Netlink::default()));
    loop {
        wake.notified().await;
        let took = walker.look(&ledger).await;
        sleep(took * REST).await;
    }
}

/// Looks at flows.
pub(super) struct Walker {
    flows: Box<dyn Flows>,
    /// Whether the last look failed, so that a failure is said once.
    fails: bool,
    meters: HashMap<Family, Meters>,
}

impl Walker {
    pub(super) fn over(flows: Box<dyn Flows>) -> Self {
        describe_histogram!(
            SECONDS,
            Unit::Seconds,
            "Time that looking for stale UDP flows took after an apply."
        );
        describe_counter!(DELETED, "Stale UDP flows that were deleted.");
        let meters = Family::ALL.map(|family| (family, Meters::new(family))).into();
        Self { flows, fails: false, meters }
    }

    /// Looks at what is to be looked at, and says how long that took.
    pub(super) async fn look(&mut self, ledger: &Mutex<Ledger>) -> Duration {
        let begin = Instant::now();
        let questions = ledger.lock().await.begin();
        let mut failure = None;
        for question in questions {
            let begin = Instant::now();
            if let Err(error) = self.answer(question, ledger).await {
                failure = Some(error);
            }
            if let Some(meters) = self.meters.get(&question.family) {
                meters.seconds.record(begin.elapsed());
            }
        }
        ledger.lock().await.end(failure.is_none());
        let failed_before = std::mem::replace(&mut self.fails, failure.is_some());
        if let Some(error) = failure.filter(|_| !failed_before) {
            let error: &dyn Error = &error;
            warn!(error, "stale UDP flows may be left, and are looked for again");
        }
        begin.elapsed()
    }

    async fn answer(
        &mut self,
        question: Question,
        ledger: &Mutex<Ledger>,
    ) -> Result<(), FlowError> {
        let flows = self.flows.ask(question).await?;
        let stale = ledger.lock().await.stale(flows);
        let mut deleted = 0;
        let mut result = Ok(());
        for flow in &stale {
            match self.flows.delete(flow).await {
                Ok(was_there) => deleted += u64::from(was_there),
                Err(error) => result = Err(error),
            }
        }
        if deleted > 0 {
            let family = question.family;
            info!("deleted {deleted} {family} UDP flows whose endpoint no longer serves");
            if let Some(meters) = self.meters.get(&family) {
                meters.deleted.increment(deleted);
            }
        }
        result
    }
}

const SECONDS: &str = "kubeproxy_conntrack_reconciler_sync_duration_seconds";
const DELETED: &str = "kubeproxy_conntrack_reconciler_deleted_entries_total";

struct Meters {
    seconds: Histogram,
    deleted: Counter,
}

impl Meters {
    fn new(family: Family) -> Self {
        let family = family.to_string();
        Self {
            seconds: histogram!(SECONDS, "ip_family" => family.clone()),
            deleted: counter!(DELETED, "ip_family" => family),
        }
    }
}
