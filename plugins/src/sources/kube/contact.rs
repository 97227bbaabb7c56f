//! Since when the API server was not heard.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use metrics::{Gauge, Unit, describe_gauge, gauge};
use shunt_core::source::Freshness;
use tokio::time::Instant;

use super::object::plural;
use crate::sources::objects::ObjectKind;

/// A watch that was open for so long was well.
const LONG: Duration = Duration::from_secs(30);

/// Whether what is served is what the API server says: since when a watch has been failing.
///
/// The model keeps what was last seen, so the age of a failure is how stale the node may be.
#[derive(Debug, Default)]
pub struct Contact {
    failing: Mutex<Vec<(ObjectKind, Instant)>>,
    /// When the server last answered a request for a kind.
    answered: Mutex<HashMap<ObjectKind, Instant>>,
}

impl Contact {
    /// The kind that has been failing longest, and since when; `None` if all are well.
    #[must_use]
    pub fn lost_since(&self) -> Option<(ObjectKind, Instant)> {
        self.lock().iter().copied().min_by_key(|(_, since)| *since)
    }

    /// A watch works. Returns since when it had not.
    pub(super) fn found(&self, kind: ObjectKind, now: Instant) -> Option<Instant> {
        gauge(kind).set(0.0);
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, now);
        let mut failing = self.lock();
        let place = failing.iter().position(|(known, _)| *known == kind)?;
        Some(failing.swap_remove(place).1)
    }

    /// Whether a watch that broke off was open for long, so that it is no failure yet: a server that
    /// has nothing to say may say nothing at all until the watch is given up.
    pub(super) fn was_open(&self, kind: ObjectKind, now: Instant) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.get(&kind).is_some_and(|since| now - *since >= LONG)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_watch_that_was_open_for_long_may_break_off() {
        let contact = Contact::default();
        let start = Instant::now();
        let check = |kind, now, expected| assert_eq!(contact.was_open(kind, now), expected);
        check(ObjectKind::Node, start, false);
        contact.found(ObjectKind::Node, start);
        check(ObjectKind::Node, start + LONG / 2, false);
        check(ObjectKind::Node, start + LONG, true);
        check(ObjectKind::Service, start + LONG, false);
        // One that the server breaks off again and again is a failure.
        contact.found(ObjectKind::Node, start + LONG);
        check(ObjectKind::Node, start + LONG, false);
    }
}
