//! The backend: what happens when, in terms of the other files.

use std::sync::Arc;

use async_trait::async_trait;
use shunt_core::{
    LbBackend,
    backend::{ApplyReport, BackendError, Bell, Inspection, Probe, Verdict},
    model::Family,
    plan::Delta,
};
use tokio::{
    sync::Mutex,
    task::{AbortHandle, spawn_blocking},
};

use super::{
    cleanup,
    conntrack::Reconciler,
    grace, inspect,
    lock::Lock,
    netlink::Netlink,
    options::NftablesOptions,
    probe,
    running::{Running, cleanup_failed},
    watch::Watch,
};

/// The packet path: load balancing by nftables.
///
/// # Minimum kernel version
///
/// 5.10. Before the fix of September 2025 (mainline commit b2f742c846ca) the kernel can miss an
/// element of a set while a transaction is committed, and a connection may then find no Service.
pub struct NftablesBackend {
    options: NftablesOptions,
    started: Option<Started>,
}

/// What there is between `start` and the end.
struct Started {
    _lock: Lock,
    stale: Reconciler,
    running: Arc<Mutex<Running>>,
    watch: Watch,
    sweeper: Option<AbortHandle>,
}

impl NftablesBackend {
    /// A backend that has not touched the kernel yet.
    #[must_use]
    pub const fn new(options: NftablesOptions) -> Self {
        Self { options, started: None }
    }
}

#[async_trait]
impl LbBackend for NftablesBackend {
    async fn probe(&self) -> Probe {
        probe::probe(&self.options).await
    }

    async fn start(&mut self, bell: Bell) -> Result<(), BackendError> {
        if self.started.is_some() {
            return Ok(());
        }
        let lock = Lock::acquire(&self.options.table).map_err(|cause| {
            BackendError::new(format!("take over the tables {}", self.options.table), cause)
        })?;
        let families = probe::families(&self.options).await?;
        let open = |cause| BackendError::new("open a netlink socket for nftables", cause);
        let kernel = Netlink::open(&self.options).map_err(open)?;
        let watch = Watch::start(&self.options, kernel.port_id(), bell)
            .map_err(|cause| BackendError::new("follow the changes of nftables", cause))?;
        let stale = Reconciler::start();
        stale.adopt(inspect::udp_frontends(&self.options).await?).await;
        let running = Running::new(Arc::new(kernel), self.options.clone(), &families);
        let running = Arc::new(Mutex::new(running));
        self.started = Some(Started { _lock: lock, stale, running, watch, sweeper: None });
        Ok(())
    }

    async fn apply(&mut self, delta: &Delta) -> ApplyReport {
        let Some(started) = &mut self.started else {
            let mut report = ApplyReport::default();
            report.error = Some(BackendError::new("apply", "the backend is not started"));
            return report;
        };
        let (report, awaits) = {
            let mut running = started.running.lock().await;
            let report = running.apply(delta).await;
            (report, running.awaits())
        };
        started.sweep_later(awaits);
        started.stale.after(delta, &report).await;
        report
    }

    async fn verify(&mut self) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(started) = &mut self.started else {
            verdict.problems.push("The packet path is not started.".to_owned());
            return verdict;
        };
        if let Some(problem) = started.watch.problem() {
            verdict.problems.push(problem);
        }
        let mut running = started.running.lock().await;
        if started.watch.take_doubt() || running.is_lost() {
            running.verify(&mut verdict).await;
        }
        running.meter().await;
        drop(running);
        started.stale.retry().await;
        verdict
    }

    async fn inspect(&self) -> Result<Inspection, BackendError> {
        inspect::inspect(&self.options).await
    }

    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError> {
        self.started = None;
        // A running agent would write them again.
        let _lock = Lock::acquire(&self.options.table).map_err(|cause| {
            BackendError::new(format!("remove the tables {}", self.options.table), cause)
        })?;
        cleanup::cleanup(&self.options).await
    }
}

impl Started {
    /// Deletes what a Delta left over, when no packet on its way can know it any more. Off the
    /// path of the next Delta, and once for all that gathers meanwhile.
    fn sweep_later(&mut self, mut awaits: Vec<(Family, u64)>) {
        let is_under_way = self.sweeper.as_ref().is_some_and(|task| !task.is_finished());
        if awaits.is_empty() || is_under_way {
            return;
        }
        let running = Arc::clone(&self.running);
        let task = tokio::spawn(async move {
            while !awaits.is_empty() {
                // Without a grace period leftovers would stay for good: something to see. To
                // delete them without one would fail connections.
                match spawn_blocking(grace::wait).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%error, "no grace period: leftovers stay in the tables");
                        awaits.iter().for_each(|(family, _)| cleanup_failed(*family));
                        return;
                    }
                    Err(_) => return,
                }
                let mut running = running.lock().await;
                running.sweep(&awaits).await;
                let before = std::mem::replace(&mut awaits, running.awaits());
                // What could not be swept waits for the next Delta.
                if before == awaits {
                    return;
                }
            }
        });
        self.sweeper = Some(task.abort_handle());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(task) = &self.sweeper {
            task.abort();
        }
    }
}
