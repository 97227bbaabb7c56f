//! What a backend is doing, while the engine goes on.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    backend::{ApplyReport, BackendError, Bell, LbBackend, Verdict},
    plan::Delta,
};

/// Something for a backend to do.
#[derive(Debug)]
pub(super) enum Task {
    Start(Bell),
    Apply(Arc<Delta>),
    Verify,
}

impl Task {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Apply(_) => "apply",
            Self::Verify => "verify",
        }
    }
}

/// A task that is done, with the backend that it had for itself.
pub(super) struct Done {
    /// The index of the backend's lane.
    pub(super) lane: usize,
    pub(super) backend: Box<dyn LbBackend>,
    pub(super) outcome: Outcome,
}

/// What came of a task.
#[derive(Debug)]
pub(super) enum Outcome {
    Started(Result<(), BackendError>),
    Applied { delta: Arc<Delta>, report: ApplyReport, took: Duration },
    Verified(Verdict),
}

/// Does a task. The backend moves into the future, so that a slow one holds up nobody.
pub(super) async fn perform(lane: usize, mut backend: Box<dyn LbBackend>, task: Task) -> Done {
    let outcome = match task {
        Task::Start(bell) => Outcome::Started(backend.start(bell).await),
        Task::Apply(delta) => {
            let begin = Instant::now();
            let report = backend.apply(&delta).await;
            Outcome::Applied { delta, report, took: begin.elapsed() }
        }
        Task::Verify => Outcome::Verified(backend.verify().await),
    };
    Done { lane, backend, outcome }
}
