//! ServicePorts that have nobody here to serve them, counted.

use super::ServicePort;
use crate::model::TrafficPolicy;

/// How many ServicePorts drop connections because a policy asks for endpoints of this node, of
/// which they have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoLocalEndpoints {
    /// By internal policy.
    pub internal: usize,
    /// By external policy.
    pub external: usize,
}

impl NoLocalEndpoints {
    /// A ServicePort of which nobody anywhere serves refuses, and is not counted.
    pub(super) fn of(port: &ServicePort) -> Self {
        let drops = |policy| {
            let is_local = policy == TrafficPolicy::Local;
            usize::from(is_local && port.has_any && port.local_list().next().is_none())
        };
        Self { internal: drops(port.internal_policy), external: drops(port.external_policy) }
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.internal += other.internal;
        self.external += other.external;
    }

    /// Takes off what was added before.
    pub(super) const fn subtract(&mut self, other: Self) {
        self.internal -= other.internal;
        self.external -= other.external;
    }
}
