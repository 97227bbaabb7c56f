//! The four watches, and when together they have said everything.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use shunt_core::{
    ServiceSource, Update,
    source::{Completeness, Freshness, SourceError, UpdateSender},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    access::Access,
    contact::{self, Contact},
    watch::{Wanted, Watch},
};
use crate::sources::objects::{Names, ObjectKind};

/// Services of other proxies are none of ours.
const OUR_SERVICES: &str = "!service.kubernetes.io/service-proxy-name";

/// Endpoints of headless Services are a matter of DNS.
const OUR_SLICES: &str = "!service.kubernetes.io/headless";

/// The kinds that are watched.
const KINDS: [ObjectKind; 4] =
    [ObjectKind::Service, ObjectKind::EndpointSlice, ObjectKind::Node, ObjectKind::ServiceCidr];

/// Services, EndpointSlices, the own Node and ServiceCIDRs of a cluster.
#[derive(Debug)]
pub struct KubeSource {
    access: Arc<Access>,
    contact: Arc<Contact>,
    node_name: Arc<str>,
}

impl KubeSource {
    /// A source for the node called `node_name`. Asks nothing before it runs.
    #[must_use]
    pub fn new(access: Access, node_name: &Arc<str>) -> Self {
        let (access, contact) = (Arc::new(access), Arc::new(Contact::default()));
        Self { access, contact, node_name: Arc::clone(node_name) }
    }

    /// Whether the API server is in sight, also while the source runs.
    #[must_use]
    pub fn contact(&self) -> Arc<Contact> {
        Arc::clone(&self.contact)
    }

    fn watch(&self, kind: ObjectKind, names: &Arc<Mutex<Names>>) -> Watch {
        let wanted = match kind {
            ObjectKind::Service => Wanted::Labels(OUR_SERVICES),
            ObjectKind::EndpointSlice => Wanted::Labels(OUR_SLICES),
            ObjectKind::Node => Wanted::Name(Arc::clone(&self.node_name)),
            ObjectKind::ServiceCidr => Wanted::All,
        };
        Watch::new(kind, wanted, &self.access, &self.contact, names)
    }
}

#[async_trait]
impl ServiceSource for KubeSource {
    async fn run(
        self: Box<Self>,
        updates: UpdateSender,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        contact::describe();
        let (settled, names) = (Settled::default(), Arc::default());
        let [services, slices, node, cidrs] = KINDS.map(|kind| self.watch(kind, &names));
        let synced = async {
            settled.all().await;
            updates.send(Update::Synced(Completeness::Complete)).await;
            // What was said stands; the watches go on.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = shutdown.cancelled() => (),
            // A watch ends only when nobody listens any more.
            _ = services.follow(&updates, &settled) => (),
            _ = slices.follow(&updates, &settled) => (),
            _ = node.follow(&updates, &settled) => (),
            _ = cidrs.follow(&updates, &settled) => (),
            () = synced => (),
        }
        Ok(())
    }

    fn freshness(&self) -> Option<Arc<dyn Freshness>> {
        Some(self.contact())
    }
}

/// Which kinds have been listed, or refused for good, since the start.
#[derive(Debug, Default)]
pub(super) struct Settled {
    kinds: Mutex<Vec<ObjectKind>>,
    changed: Notify,
}

impl Settled {
    /// A kind is settled. Returns whether it was not before.
    pub(super) fn settle(&self, kind: ObjectKind) -> bool {
        // Nothing here panics in the middle of a change.
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !kinds.contains(&kind);
        if is_new {
            kinds.push(kind);
            self.changed.notify_one();
        }
        is_new
    }

    /// Waits until every kind is.
    async fn all(&self) {
        while self.kinds.lock().unwrap_or_else(PoisonError::into_inner).len() < KINDS.len() {
            self.changed.notified().await;
        }
    }
}
