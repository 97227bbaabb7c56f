//! What is sent, and what comes of it.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use serde_json::Value;
use shunt_core::model::Protocol;
use shunt_harness::world::World;

/// Who sends: a pod of the agent's node, which can be an endpoint itself; the node; one from
/// outside of the cluster; a pod of the other node.
pub(crate) const CLIENTS: [&str; 4] = ["client", World::OWN_NODE, "outside", "echo-2"];

/// What is heard where nobody answers and nothing is refused.
pub(crate) const SILENCE: &str = "silence";

/// One thing to send.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// From where.
    pub(crate) client: &'static str,
    /// To what kind of address.
    pub(crate) kind: &'static str,
    pub(crate) to: SocketAddr,
    pub(crate) protocol: Protocol,
    /// The name of the Service's port.
    pub(crate) port: String,
    /// What the Service looks like.
    pub(crate) service: Value,
}

impl Cell {
    /// Whether one of the Service's traffic policies is `Local`.
    pub(crate) fn is_local(&self) -> bool {
        let has = |policy: &str| self.service["spec"][policy] == "Local";
        has("internalTrafficPolicy") || has("externalTrafficPolicy")
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, kind, to, protocol, .. } = self;
        write!(f, "{client} to {kind} {to} {protocol}")
    }
}

/// What came of it: who answered and what source it saw, errors, silence. Chance chooses among
/// endpoints, so there can be several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome(pub(crate) BTreeSet<String>);

impl Outcome {
    /// The outcome that is written so.
    pub(crate) fn written(text: &str) -> Self {
        Self(text.split(", ").map(str::to_owned).collect())
    }

    /// Who answered, whatever the source was.
    pub(crate) fn pods(&self) -> BTreeSet<&str> {
        self.0.iter().filter_map(|who| Some(who.split_once(" sees ")?.0)).collect()
    }

    /// What else was heard than answers.
    pub(crate) fn failures(&self) -> BTreeSet<&str> {
        self.0.iter().map(String::as_str).filter(|who| !who.contains(" sees ")).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().cloned().collect::<Vec<_>>().join(", "))
    }
}
