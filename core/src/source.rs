//! The first trait: where Services and endpoints come from.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::model::{EndpointSlice, HostAddress, Node, ObjectName, Service, ServiceCidr};

/// Where Services, EndpointSlices and facts about the node come from.
///
/// A source lists everything that it has, says so with [`Update::Synced`], and then tells changes
/// as they happen.
/// Several sources run together: what one says concerns only its own objects, and when two bring
/// the same object the engine keeps the first and names both in a warning.
///
/// # Contract
///
/// - `run` is called once and ends when `shutdown` is cancelled; it then returns `Ok`.
/// - It waits for notifications; it does not poll.
/// - What it cannot read is an error that it logs and survives: the last good state of the objects
///   concerned stays. It returns an error only if it can never bring anything again.
/// - Sending blocks while the engine is busy: that is the back-pressure.
#[async_trait]
pub trait ServiceSource: Send {
    /// Runs until `shutdown`, sending what it sees to `updates`.
    ///
    /// # Errors
    ///
    /// Returns an error if the source cannot go on; the engine then ends, because a source that
    /// is silent would let the node go stale unseen.
    async fn run(
        self: Box<Self>,
        updates: UpdateSender,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError>;

    /// Who knows, also while the source runs, whether it sees what it watches. Without one, as by
    /// default, it always does.
    fn freshness(&self) -> Option<Arc<dyn Freshness>> {
        None
    }
}

/// Whether a source sees what it watches.
pub trait Freshness: Send + Sync {
    /// What it does not see, in words, and since when. What was last seen of it is served on.
    fn unseen(&self) -> Vec<(String, Instant)>;
}

/// A source failed for good; the cause says what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("source {source_name} cannot go on")]
pub struct SourceError {
    /// The name of the source, as in the registry.
    pub source_name: SourceName,
    /// What happened.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// What a source says. Everything is scoped to the source that says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// A complete list follows, up to the next [`Update::Synced`]: objects of this source that
    /// are not named until then are removed at that moment, not before. A list that ends
    /// [`Completeness::Partial`] removes nothing; the next complete one does.
    Reset,
    /// This object exists and looks so.
    Upsert(Object),
    /// This object is gone. Removing what does not exist is no error.
    Remove(ObjectId),
    /// Everything that the source has was said since it began or since its last `Reset`.
    Synced(Completeness),
}

/// Whether a list that ended is all that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// What was not listed does not exist.
    Complete,
    /// Something could not be read (a file that is broken at the start): what was listed is
    /// served, and nothing that an earlier run left in the kernel is removed yet.
    Partial,
}

/// One object as a source sees it.
///
/// It is on the heap from the source to the model: thousands of these wait in lists and queues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A Service.
    Service(Box<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Node; the engine uses its own and ignores others.
    Node(Box<Node>),
    /// A ServiceCIDR.
    ServiceCidr(Box<ServiceCidr>),
    /// An address that an interface of this host carries.
    HostAddress(Box<HostAddress>),
}

/// The identity of an [`Object`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectId {
    /// A Service, by namespace and name.
    Service(ObjectName),
    /// An EndpointSlice, by namespace and name.
    EndpointSlice(ObjectName),
    /// A Node, by name.
    Node(Arc<str>),
    /// A ServiceCIDR, by name.
    ServiceCidr(Arc<str>),
    /// An address on an interface: the value is its own identity.
    HostAddress(Box<HostAddress>),
}

impl From<Service> for Object {
    fn from(service: Service) -> Self {
        Self::Service(Box::new(service))
    }
}

impl From<EndpointSlice> for Object {
    fn from(slice: EndpointSlice) -> Self {
        Self::EndpointSlice(Arc::new(slice))
    }
}

impl From<Node> for Object {
    fn from(node: Node) -> Self {
        Self::Node(Box::new(node))
    }
}

impl From<ServiceCidr> for Object {
    fn from(cidr: ServiceCidr) -> Self {
        Self::ServiceCidr(Box::new(cidr))
    }
}

impl From<HostAddress> for Object {
    fn from(address: HostAddress) -> Self {
        Self::HostAddress(Box::new(address))
    }
}

impl Object {
    /// The identity of this object.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Service(service) => ObjectId::Service(service.name.clone()),
            Self::EndpointSlice(slice) => ObjectId::EndpointSlice(slice.name.clone()),
            Self::Node(node) => ObjectId::Node(Arc::clone(&node.name)),
            Self::ServiceCidr(cidr) => ObjectId::ServiceCidr(Arc::clone(&cidr.name)),
            Self::HostAddress(address) => ObjectId::HostAddress(address.clone()),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::EndpointSlice(name) => write!(f, "EndpointSlice {name}"),
            Self::Node(name) => write!(f, "Node {name}"),
            Self::ServiceCidr(name) => write!(f, "ServiceCIDR {name}"),
            Self::HostAddress(address) => {
                write!(f, "address {} of {}", address.address, address.interface)
            }
        }
    }
}

/// The name of a source, as in the registry: `static`, `host`, `mock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// Names a source.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Updates of a list that are sent at once.
const AT_ONCE: usize = 64;

/// The end of the engine's queue that a source holds.
#[derive(Clone, Debug)]
pub struct UpdateSender {
    source: SourceName,
    queue: mpsc::Sender<(SourceName, Update)>,
}

impl UpdateSender {
    /// A sender for `source`; [`crate::engine`] makes one for each source.
    #[must_use]
    pub const fn new(source: SourceName, queue: mpsc::Sender<(SourceName, Update)>) -> Self {
        Self { source, queue }
    }

    /// Sends one update, waiting while the engine is busy.
    ///
    /// Returns whether there still is an engine: a source ends when there is none.
    pub async fn send(&self, update: Update) -> bool {
        self.queue.send((self.source.clone(), update)).await.is_ok()
    }

    /// Sends several updates, in this order, waiting while the engine is busy. The engine is woken
    /// once for many, and not for each: the way for lists.
    ///
    /// Returns as [`Self::send`] does.
    pub async fn send_all(
        &self,
        updates: impl IntoIterator<Item = Update, IntoIter: Send>,
    ) -> bool {
        let mut updates = updates.into_iter().fuse();
        loop {
            let some: Vec<_> =
                updates.by_ref().take(self.queue.max_capacity().min(AT_ONCE)).collect();
            if some.is_empty() {
                return !self.queue.is_closed();
            }
            let Ok(places) = self.queue.reserve_many(some.len()).await else { return false };
            for (place, update) in places.zip(some) {
                place.send((self.source.clone(), update));
            }
        }
    }

    /// The name of the source that this sender was made for.
    #[must_use]
    pub const fn source(&self) -> &SourceName {
        &self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removal(number: usize) -> Update {
        Update::Remove(ObjectId::Node(number.to_string().into()))
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_is_sent_in_order() {
        let (queue, mut engine) = mpsc::channel(4);
        let sender = UpdateSender::new(SourceName::new("test"), queue);
        let sending = tokio::spawn(async move { sender.send_all((0..10).map(removal)).await });
        for number in 0..10 {
            assert_eq!(engine.recv().await, Some((SourceName::new("test"), removal(number))));
        }
        assert!(sending.await.unwrap());
    }

    #[tokio::test]
    async fn a_sender_notices_that_nobody_listens() {
        let (queue, engine) = mpsc::channel(4);
        let sender = UpdateSender::new(SourceName::new("test"), queue);
        assert!(sender.send_all([]).await);
        drop(engine);
        assert!(!sender.send_all([]).await);
        assert!(!sender.send_all([removal(0)]).await);
    }
}
