//! The second trait: what brings the desired state into the kernel.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    model::{Family, Protocol},
    plan::{Delta, Frontend, ServicePortKey},
};

/// A dataplane.
///
/// # Contract
///
/// - Order: `probe` any time; `start` once; then `apply`, `verify` and `inspect` in any order, one
///   at a time; `cleanup` instead of everything else.
/// - The first Delta after `start` is the full state. It is `complete` unless a source could not
///   list everything; what an earlier run left is removed only by a complete one.
/// - Whatever fails in the middle leaves each ServicePort with its old set of endpoints, its new
///   one or their union, and never with another's.
/// - Methods may do short blocking work (system calls); nothing waits for the network.
/// - Dropping a backend leaves the kernel's state in place: a restart loses no connection.
#[async_trait]
pub trait LbBackend: Send {
    /// Finds out by trying whether the backend can work here, and what it can take. Leaves no
    /// trace. Absence of a facility is never an error: it is a [`Facility`] that is not there.
    async fn probe(&self) -> Probe;

    /// Takes over what an earlier run left, without changing what serves, and keeps the bell.
    ///
    /// # Errors
    ///
    /// Fails where the kernel refuses what `probe` found, or another agent holds the state.
    /// Can be called again later.
    async fn start(&mut self, bell: Bell) -> Result<(), BackendError>;

    /// Brings a Delta into the kernel and says for each ServicePort in it what became of it.
    /// Applying the same Delta again is harmless. Nothing is half applied: see the contract.
    async fn apply(&mut self, delta: &Delta) -> ApplyReport;

    /// Proves that the kernel does what was applied, and mends what it can.
    async fn verify(&mut self) -> Verdict;

    /// Reads back from the kernel, not from memory, what is being served. Works without `start`.
    ///
    /// # Errors
    ///
    /// Fails where the state cannot be read; an absent state is an empty [`Inspection`].
    async fn inspect(&self) -> Result<Inspection, BackendError>;

    /// Removes every trace from the kernel and says what was removed. Goes on after an error and
    /// then returns the first.
    ///
    /// # Errors
    ///
    /// Fails where something could not be removed, or another agent is running.
    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError>;
}

/// Tells the engine that the kernel's state was changed by someone else.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Rings: the engine will verify soon. Rings before that are one.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for a ring.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// What a backend found out about the machine.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Probe {
    /// What it can take; `None` if it cannot work here at all.
    pub capabilities: Option<Capabilities>,
    /// Every facility of the kernel that it asked for, in the order in which people should read.
    pub facilities: Vec<Facility>,
}

impl Probe {
    /// The required facilities that are absent, for a message.
    pub fn missing(&self) -> impl Iterator<Item = &Facility> {
        self.facilities.iter().filter(|facility| facility.required && !facility.present)
    }
}

/// One facility of the kernel, for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facility {
    /// What it is, in the kernel's terms.
    pub name: &'static str,
    /// Whether it is here.
    pub present: bool,
    /// Whether the backend cannot work without it.
    pub required: bool,
    /// How it was tried and what the kernel answered.
    pub how: String,
    /// What is lost without it.
    pub lost: &'static str,
}

/// What a backend can take. What it cannot falls through to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Families.
    pub families: BTreeSet<Family>,
    /// Protocols.
    pub protocols: BTreeSet<Protocol>,
    /// Features, each of which has its own page in the conformance suite.
    pub features: BTreeSet<Feature>,
}

/// A feature of a Service that a backend may or may not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Feature {
    /// Frontends of kind NodePort.
    NodePort,
    /// NodePorts on loopback addresses, from the host network.
    LoopbackNodePort,
    /// Frontends of kinds externalIP and load-balancer VIP.
    ExternalAddresses,
    /// Load-balancer VIPs with source ranges.
    SourceRanges,
    /// ClientIP session affinity.
    Affinity,
    /// An explicit refusal where no endpoint exists.
    Refusal,
    /// A silent drop where policy Local has no endpoint here.
    Drop,
    /// The application sees the Service's address as its peer.
    PeerName,
    /// Packets without a socket on this node are served.
    Forwarded,
}

/// What became of a Delta.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ApplyReport {
    /// ServicePorts that this backend left to others, wholly or in part, and why. What is named
    /// neither here nor in `failed` was taken.
    pub left: HashMap<ServicePortKey, LeftReason>,
    /// ServicePorts that this Delta does not name, that an earlier report left, and that are taken
    /// now: there was no room, and now there is.
    pub taken: Vec<ServicePortKey>,
    /// ServicePorts that could not be brought into the kernel; the engine tries these again.
    pub failed: HashMap<ServicePortKey, BackendError>,
    /// The node's part or the backend as a whole failed; the engine tries the whole Delta again.
    pub error: Option<BackendError>,
}

impl ApplyReport {
    /// Whether everything was taken or knowingly left.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.error.is_none()
    }
}

/// Why a backend leaves a ServicePort, or some of its frontends, to others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftReason {
    /// The protocol is not one that this backend takes.
    Protocol(Protocol),
    /// The kernel here lacks what the family needs.
    Family(Family),
    /// The load-balancer VIPs have source ranges, and a socket has no source address yet.
    SourceRanges,
    /// Policy Local and no endpoint on this node: the packet path drops.
    NoLocalEndpoint,
    /// An interface of this node carries the ClusterIP: what listens there answers.
    OnInterface(Frontend),
    /// No endpoint, and the kernel cannot make connect() return ECONNREFUSED.
    NoRefusal,
    /// A table of the kernel is full; names the table.
    Full(&'static str),
    /// The name is longer than Kubernetes allows, and the kernel's table has no room for it.
    NameTooLong,
}

impl fmt::Display for LeftReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(protocol) => write!(f, "{protocol} is not taken at connect()"),
            Self::Family(family) => write!(f, "{family} is not available here"),
            Self::SourceRanges => f.write_str("source ranges need a packet's source address"),
            Self::NoLocalEndpoint => f.write_str("policy Local without an endpoint on this node"),
            Self::OnInterface(frontend) => write!(
                f,
                "the ClusterIP is assigned to interface {}",
                frontend.on_interface.as_deref().unwrap_or("?")
            ),
            Self::NoRefusal => f.write_str("this kernel cannot refuse a connect()"),
            Self::Full(table) => write!(f, "table {table} is full"),
            Self::NameTooLong => f.write_str("its name is longer than 63 bytes"),
        }
    }
}

/// The result of [`LbBackend::verify`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Verdict {
    /// What is wrong, each a full sentence for an operator; empty means that the kernel does what
    /// was applied.
    pub problems: Vec<String>,
    /// What was wrong and has been mended.
    pub repaired: Vec<String>,
    /// Whether the state was lost and the engine has to apply everything anew.
    pub reapply: bool,
}

/// What a backend read back from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The ServicePorts being served, sorted by key.
    pub services: Vec<InspectedService>,
    /// How full the tables are.
    pub tables: Vec<TableUse>,
}

/// One ServicePort as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedService {
    /// Its identity.
    pub key: ServicePortKey,
    /// Its frontends, each with what serves it.
    pub frontends: Vec<InspectedFrontend>,
    /// Affinity time-out in seconds.
    pub affinity_seconds: Option<u32>,
    /// Why all of it is left to others, in words, if it is.
    pub left: Option<&'static str>,
}

impl InspectedService {
    /// A ServicePort without frontends.
    #[must_use]
    pub const fn new(key: ServicePortKey) -> Self {
        Self { key, frontends: Vec::new(), affinity_seconds: None, left: None }
    }
}

/// One frontend as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedFrontend {
    /// The frontend.
    pub frontend: Frontend,
    /// What a new connection gets.
    pub answer: Answer,
}

/// What a new connection to a frontend gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One of these endpoints, in the kernel's order.
    Endpoints(Vec<std::net::SocketAddr>),
    /// A refusal.
    Refused,
    /// It is left untouched, for the next dataplane.
    Left,
}

/// How full a table of the kernel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// The table's name in the kernel.
    pub name: &'static str,
    /// Entries in use.
    pub used: u64,
    /// Entries that there are.
    pub size: u64,
}

/// A backend could not do something; the message names operation and object, the source says why.
///
/// Retryable always: the engine backs off.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct BackendError {
    /// The operation and its object, lower case.
    pub operation: String,
    /// The cause.
    #[source]
    pub cause: Box<dyn Error + Send + Sync>,
}

impl BackendError {
    /// `operation` failed because of `cause`.
    pub fn new(
        operation: impl Into<String>,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { operation: operation.into(), cause: cause.into() }
    }
}
