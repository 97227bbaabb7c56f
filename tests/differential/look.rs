//! What is sent, and what comes of it.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use serde_json::Value;
use shunt_harness::{probe::Transport, world::World};

/// Who sends: a pod of the agent's node, which can be an endpoint itself; the node; one from
/// outside of the cluster; a pod of the other node.
pub(crate) const CLIENTS: [&str; 4] = ["client", World::OWN_NODE, "outside", "echo-2"];

/// One thing to send.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// From where.
    pub(crate) client: &'static str,
    /// To what kind of address.
    pub(crate) kind: &'static str,
    pub(crate) to: SocketAddr,
    pub(crate) transport: Transport,
    /// What the Service looks like.
    pub(crate) service: Value,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, kind, to, transport, .. } = self;
        write!(f, "{client} to {kind} {to} {transport:?}")
    }
}

/// What came of it: who answered and what source it saw, errors, silence. Chance chooses among
/// endpoints, so there can be several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome(pub(crate) BTreeSet<String>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().cloned().collect::<Vec<_>>().join(", "))
    }
}
