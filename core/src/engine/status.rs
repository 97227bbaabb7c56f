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
    model::{Family, Node, PerFamily},
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
    /// Why this node should get no new connections from outside, if so.
    pub ineligible: Option<Ineligible>,
}

impl Status {
    /// How a family stands: healthy as long as one backend that carries the whole table is
    /// current, and degraded where another is not.
    ///
    /// A backend is given up when a change has been waiting for it, or something else was wrong
    /// with it, for `patience`. One that has not started yet and is not in trouble is no reason
    /// for alarm, and neither is one with nothing to do, or a family that nobody here can serve.
    #[must_use]
    pub fn health(&self, family: Family, now: Instant, patience: Duration) -> Health {
        let is_lost = |(_, backend): &(&str, &BackendStatus)| {
            let since = [backend.fault_since, backend.families[family].waiting_since];
            let is_long = |since| now.saturating_duration_since(since) >= patience;
            since.into_iter().flatten().any(is_long)
        };
        let mut carriers = self.carriers(family).peekable();
        if carriers.peek().is_some() && carriers.all(|carrier| is_lost(&carrier)) {
            return Health::Unhealthy;
        }
        let mut lost = self.serving(family).filter(is_lost);
        let is_degraded = lost.next().is_some() || self.troubled(family).next().is_some();
        if is_degraded { Health::Degraded } else { Health::Healthy }
    }

    /// The backends that carry the whole table of a family. Where none does, another proxy does,
    /// and ours are all that we know of.
    pub fn carriers(&self, family: Family) -> impl Iterator<Item = (&str, &BackendStatus)> {
        let carries = move |backend: &BackendStatus| backend.role.carries_all.contains(&family);
        let has_whole = self.serving(family).any(|(_, backend)| carries(backend));
        self.serving(family).filter(move |(_, backend)| !has_whole || carries(backend))
    }

    /// The backends that are in trouble with a family.
    pub fn troubled(&self, family: Family) -> impl Iterator<Item = (&str, &BackendStatus)> {
        self.serving(family).filter(move |(_, backend)| {
            backend.fault_since.is_some() || backend.families[family].failed > 0
        })
    }

    /// When the kernel was last found to have everything of a family.
    #[must_use]
    pub fn current_at(&self, family: Family) -> Option<Instant> {
        self.carriers(family).filter_map(|(_, backend)| backend.families[family].current_at).max()
    }

    fn serving(&self, family: Family) -> impl Iterator<Item = (&str, &BackendStatus)> {
        let backends = self.backends.iter().map(|(name, backend)| (name.as_str(), backend));
        backends.filter(move |(_, backend)| backend.role.serves.contains(&family))
    }
}

/// Why a node should get no new connections from outside: load balancers there ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// The cluster has no Node of this name.
    Missing,
    /// The Node is being deleted.
    Deleting,
    /// The cluster's autoscaler is about to delete the Node.
    ScaledDown,
}

impl Ineligible {
    /// What a Node says of itself.
    #[must_use]
    pub fn of(node: Option<&Node>) -> Option<Self> {
        /// <https://github.com/kubernetes/autoscaler/blob/e80ab518340f88f364fe3ef063f8303755125971/cluster-autoscaler/utils/deletetaint/delete.go#L36>
        const TAINT: &str = "ToBeDeletedByClusterAutoscaler";
        match node {
            None => Some(Self::Missing),
            Some(node) if node.deleting => Some(Self::Deleting),
            Some(node) => node.taints.iter().any(|key| &**key == TAINT).then_some(Self::ScaledDown),
        }
    }
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the cluster does not have it",
            Self::Deleting => "it is being deleted",
            Self::ScaledDown => "the autoscaler is about to delete it",
        })
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
    /// Whether it has failed and not succeeded since. One that takes its time has done neither.
    pub start_failed: bool,
    /// The value of [`Status::updates`] up to which everything is in the kernel.
    pub applied: u64,
    /// ServicePorts left to others, and why.
    pub left: Arc<HashMap<ServicePortKey, LeftReason>>,
    /// ServicePorts that failed and are being retried.
    pub failed: usize,
    /// What the last verify found wrong, or why start or the last apply failed; empty if healthy.
    pub problems: Vec<String>,
    /// Since when something has been wrong without a break that is no matter of single
    /// ServicePorts.
    pub fault_since: Option<Instant>,
    /// What is a matter of one family.
    pub families: PerFamily<FamilyStatus>,
}

/// How a family stands in one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FamilyStatus {
    /// Since when a change has been waiting to be in the kernel.
    pub waiting_since: Option<Instant>,
    /// ServicePorts that failed and are being retried.
    pub failed: usize,
    /// When the kernel was last found to have everything.
    pub current_at: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_goes_should_get_no_new_connections() {
        let check = |change: fn(&mut Node), expected| {
            let mut node = Node::new("node-1".into());
            change(&mut node);
            assert_eq!(Ineligible::of(Some(&node)), expected);
        };
        check(|_| (), None);
        check(|node| node.taints.push("node.kubernetes.io/not-ready".into()), None);
        check(|node| node.deleting = true, Some(Ineligible::Deleting));
        let taint = |node: &mut Node| node.taints.push("ToBeDeletedByClusterAutoscaler".into());
        check(taint, Some(Ineligible::ScaledDown));
        assert_eq!(Ineligible::of(None), Some(Ineligible::Missing));
    }

    /// Two backends, of which `nftables` carries everything. For each: since how many seconds a
    /// change of IPv4 waits, and since how many something is wrong.
    fn check(connect: [Option<u64>; 2], nftables: [Option<u64>; 2], expected: [Health; 2]) {
        let begin = Instant::now();
        let now = begin + Duration::from_secs(1000);
        let backend = |[waiting, fault]: [Option<u64>; 2], role: Role| {
            let ago = |seconds: Option<u64>| seconds.map(|ago| now - Duration::from_secs(ago));
            let mut backend = BackendStatus { role, ..BackendStatus::default() };
            backend.fault_since = ago(fault);
            backend.families[Family::V4].waiting_since = ago(waiting);
            backend
        };
        let connect_role = Role { carries_all: BTreeSet::new(), ..Role::default() };
        let backends = BTreeMap::from([
            ("connect".to_owned(), backend(connect, connect_role)),
            ("nftables".to_owned(), backend(nftables, Role::default())),
        ]);
        let status = Status { backends, ..Status::default() };
        let patience = Duration::from_secs(60);
        let health = Family::ALL.map(|family| status.health(family, now, patience));
        assert_eq!(health, expected, "{connect:?} {nftables:?}");
    }

    #[test]
    fn a_family_is_healthy_while_one_that_carries_everything_is_current() {
        use Health::{Degraded, Healthy, Unhealthy};
        check([None, None], [None, None], [Healthy, Healthy]);
        check([None, None], [Some(59), None], [Healthy, Healthy]);
        check([None, None], [Some(60), None], [Unhealthy, Healthy]);
        check([Some(600), None], [None, None], [Degraded, Healthy]);
        check([None, Some(600)], [None, None], [Degraded, Degraded]);
        check([None, None], [None, Some(59)], [Degraded, Degraded]);
        check([None, None], [None, Some(60)], [Unhealthy, Unhealthy]);
    }
}
