//! How things stand, for health checks, metrics and tests.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    backend::{Capabilities, Feature, LeftReason},
    model::Family,
    plan::ServicePortKey,
};

/// How things stand.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// Whether all sources have listed everything.
    pub synced: bool,
    /// Updates taken in so far.
    pub updates: u64,
    /// Each backend, by name.
    pub backends: BTreeMap<String, BackendStatus>,
}

impl Status {
    /// How a family stands: healthy as long as one backend that carries the whole table is
    /// current, and degraded where another is not.
    ///
    /// A backend is given up when its trouble has lasted for `patience`. One that has not started
    /// yet and is not in trouble is no reason for alarm, and neither is a family that nobody here
    /// can serve.
    #[must_use]
    pub fn health(&self, family: Family, now: Instant, patience: Duration) -> Health {
        let serving = || self.backends.values().filter(|b| b.role.serves.contains(&family));
        let whole = |backend: &&BackendStatus| backend.role.carries_all.contains(&family);
        let is_lost = |backend: &BackendStatus| {
            let since = backend.troubled_since;
            since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
        };
        // Where none carries the whole table, another proxy does, and ours is all that we know of.
        let has_whole = serving().any(|backend| whole(&backend));
        let mut carriers = serving().filter(|backend| !has_whole || whole(backend)).peekable();
        if carriers.peek().is_some() && carriers.all(is_lost) {
            return Health::Unhealthy;
        }
        let is_troubled = |backend: &BackendStatus| backend.troubled_since.is_some();
        if serving().any(is_troubled) { Health::Degraded } else { Health::Healthy }
    }
}

/// How a family stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Every backend does what it should.
    Healthy,
    /// A backend is in trouble, and what is left of them serves everything.
    Degraded,
    /// Changes do not reach the kernel any more. What it has goes on serving.
    Unhealthy,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// What is expected of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Role {
    /// The families that it serves.
    pub serves: BTreeSet<Family>,
    /// The families of which it carries the whole table: whatever another backend loses, it
    /// serves.
    pub carries_all: BTreeSet<Family>,
}

impl Role {
    /// The role of a backend that can do this. What takes packets without a socket on this node
    /// takes everything: what others leave arrives there.
    #[must_use]
    pub fn of(capabilities: &Capabilities) -> Self {
        let serves = capabilities.families.clone();
        let is_last = capabilities.features.contains(&Feature::Forwarded);
        Self { carries_all: if is_last { serves.clone() } else { BTreeSet::new() }, serves }
    }
}

/// Everything, of which nobody said otherwise.
impl Default for Role {
    fn default() -> Self {
        Self { serves: Family::ALL.into(), carries_all: Family::ALL.into() }
    }
}

/// How one backend stands.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BackendStatus {
    /// What is expected of it.
    pub role: Role,
    /// Whether `start` succeeded.
    pub started: bool,
    /// The value of [`Status::updates`] up to which everything is in the kernel.
    pub applied: u64,
    /// ServicePorts left to others, and why.
    pub left: Arc<HashMap<ServicePortKey, LeftReason>>,
    /// ServicePorts that failed and are being retried.
    pub failed: usize,
    /// What the last verify found wrong, or why start or the last apply failed; empty if healthy.
    pub problems: Vec<String>,
    /// Since when there have been problems without a break.
    pub troubled_since: Option<Instant>,
}
