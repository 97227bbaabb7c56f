//! Since when the API server was not heard.

use std::sync::{Mutex, PoisonError};

use metrics::{Gauge, Unit, describe_gauge, gauge};
use shunt_core::source::Freshness;
use tokio::time::Instant;

use super::object::plural;
use crate::sources::objects::ObjectKind;

/// Whether what is served is what the API server says: since when a watch has been failing.
///
/// The model keeps what was last seen, so the age of a failure is how stale the node may be.
#[derive(Debug, Default)]
pub struct Contact {
    failing: Mutex<Vec<(ObjectKind, Instant)>>,
}

impl Contact {
    /// The kind that has been failing longest, and since when; `None` if all are well.
    #[must_use]
    pub fn lost_since(&self) -> Option<(ObjectKind, Instant)> {
        self.lock().iter().copied().min_by_key(|(_, since)| *since)
    }

    /// A watch works. Returns since when it had not.
    pub(super) fn found(&self, kind: ObjectKind) -> Option<Instant> {
        gauge(kind).set(0.0);
        let mut failing = self.lock();
        let place = failing.iter().position(|(known, _)| *known == kind)?;
        Some(failing.swap_remove(place).1)
    }

    /// A watch failed. Returns whether it had worked before.
    pub(super) fn lost(&self, kind: ObjectKind, now: Instant) -> bool {
        let mut failing = self.lock();
        let since = failing.iter().find(|(known, _)| *known == kind).map(|(_, since)| *since);
        if since.is_none() {
            failing.push((kind, now));
        }
        drop(failing);
        // Never 0, which means that all is well.
        let stale = since.map_or(0.0, |since| (now - since).as_secs_f64());
        gauge(kind).set(stale.max(0.001));
        since.is_none()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(ObjectKind, Instant)>> {
        // Nothing here panics in the middle of a change.
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Freshness for Contact {
    fn unseen(&self) -> Vec<(String, Instant)> {
        let mut failing = self.lock().clone();
        failing.sort_by_key(|(kind, since)| (*since, plural(*kind)));
        let words = |kind| format!("{} of the API server", plural(kind));
        failing.into_iter().map(|(kind, since)| (words(kind), since)).collect()
    }
}

/// Says what the metrics of this file mean.
pub(super) fn describe() {
    describe_gauge!(
        "shunt_source_stale_seconds",
        Unit::Seconds,
        "How long a watch of the API server has been failing, as of its last try; 0 if it works."
    );
}

fn gauge(kind: ObjectKind) -> Gauge {
    gauge!("shunt_source_stale_seconds", "source" => "kube", "resource" => plural(kind))
}
