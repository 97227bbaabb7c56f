//! The engine and the connect-time backend in this process, fed by hand.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use shunt_core::{
    Delta, Engine, LbBackend, ServiceSource, Update,
    backend::{ApplyReport, BackendError, Bell, Inspection, Probe, Verdict},
    engine::{EngineOptions, Status},
    source::{Completeness, SourceError, SourceName, UpdateSender},
};
use shunt_harness::world::World;
use shunt_plugins::{Registry, Settings};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

/// The registry's name of what is measured.
const BACKEND: &str = "connect";

/// A running engine.
pub(crate) struct Rig {
    updates: mpsc::UnboundedSender<Vec<Update>>,
    sent: u64,
    status: watch::Receiver<Status>,
    applies: Applies,
    shutdown: CancellationToken,
    runtime: Runtime,
}

/// How long each apply of the backend took.
type Applies = Arc<Mutex<Vec<Duration>>>;

impl Rig {
    /// Starts an engine that has not been told anything yet.
    pub(crate) fn start(world: &World) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot make a runtime")?;
        let mut settings = Settings::new(World::OWN_NODE);
        settings.cgroup = Some(world.cgroup().to_owned());
        settings.pin_path = world.pin_path();
        let applies = Applies::default();
        let inner = Registry::builtin().backend(BACKEND)?.build(&settings)?;
        let backend: Box<dyn LbBackend> =
            Box::new(Timed { inner: inner.into(), applies: Arc::clone(&applies) });
        let (updates, script) = mpsc::unbounded_channel();
        let source: Box<dyn ServiceSource> = Box::new(Script(script));
        let engine = Engine::new(
            EngineOptions::new(World::OWN_NODE),
            vec![(SourceName::new("script"), source)],
            vec![(BACKEND.to_owned(), backend)],
        );
        let status = engine.status();
        let shutdown = CancellationToken::new();
        runtime.spawn(engine.run(shutdown.clone()));
        let mut rig = Self { updates, sent: 0, status, applies, shutdown, runtime };
        rig.wait("the backend to start", |status| {
            status.backends.get(BACKEND).is_some_and(|backend| backend.started)
        })?;
        Ok(rig)
    }

    /// Sends everything that there is, and returns how long it took until the kernel had it.
    pub(crate) fn fill(&mut self, updates: Vec<Update>) -> Result<Duration> {
        let start = Instant::now();
        self.send_all(updates)?;
        self.send(Update::Synced(Completeness::Complete))?;
        self.settle()?;
        Ok(start.elapsed())
    }

    /// Sends one update.
    pub(crate) fn send(&mut self, update: Update) -> Result<()> {
        self.send_all(vec![update])
    }

    fn send_all(&mut self, updates: Vec<Update>) -> Result<()> {
        self.sent += updates.len() as u64;
        self.updates.send(updates).ok().context("the engine has ended")
    }

    /// Waits until the kernel has everything that was sent.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let sent = self.sent;
        self.wait("everything to be in the kernel", |status| {
            status.backends.get(BACKEND).is_some_and(|backend| backend.applied >= sent)
        })
    }

    /// The times of the applies since the last call.
    pub(crate) fn applies(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.applies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wait(&mut self, what: &str, is_so: impl FnMut(&Status) -> bool) -> Result<()> {
        let status = self.status.wait_for(is_so);
        let wait = async { tokio::time::timeout(Duration::from_secs(60), status).await };
        let Ok(Ok(status)) = self.runtime.block_on(wait) else {
            bail!("waited in vain for {what}");
        };
        let problems = status.backends.values().flat_map(|backend| &backend.problems);
        let problems: Vec<&str> = problems.map(String::as_str).collect();
        if !problems.is_empty() {
            bail!("the backend has problems: {}", problems.join("; "));
        }
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A source that says what it is given.
struct Script(mpsc::UnboundedReceiver<Vec<Update>>);

#[async_trait]
impl ServiceSource for Script {
    async fn run(
        mut self: Box<Self>,
        updates: UpdateSender,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        loop {
            let said = tokio::select! {
                said = self.0.recv() => said,
                () = shutdown.cancelled() => None,
            };
            let Some(said) = said else { return Ok(()) };
            if !updates.send_all(said).await {
                return Ok(());
            }
        }
    }
}

/// The backend, with a watch on its applies.
struct Timed {
    // Never contended: a backend can be sent to another thread but not shared, and this must be.
    inner: tokio::sync::Mutex<Box<dyn LbBackend>>,
    applies: Applies,
}

#[async_trait]
impl LbBackend for Timed {
    async fn probe(&self) -> Probe {
        self.inner.lock().await.probe().await
    }

    async fn start(&mut self, bell: Bell) -> Result<(), BackendError> {
        self.inner.get_mut().start(bell).await
    }

    async fn apply(&mut self, delta: &Delta) -> ApplyReport {
        let start = Instant::now();
        let report = self.inner.get_mut().apply(delta).await;
        self.applies.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
        report
    }

    async fn verify(&mut self) -> Verdict {
        self.inner.get_mut().verify().await
    }

    async fn inspect(&self) -> Result<Inspection, BackendError> {
        self.inner.lock().await.inspect().await
    }

    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError> {
        self.inner.get_mut().cleanup().await
    }
}
