//! The kube source against an API server that misbehaves: whatever happens, the model comes to
//! hold what the server holds, and in between it loses nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use shunt_core::{
    ServiceSource as _, Update,
    model::{Cluster, Dirty, ObjectName},
    source::{SourceName, UpdateSender},
};
use shunt_harness::apiserver::{Fault, FaultyServer};
use shunt_plugins::{
    KubeSettings,
    sources::kube::{Access, Contact, KubeSource},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// No condition takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// A source that runs, and the model that it fills.
struct Rig {
    server: FaultyServer,
    cluster: Cluster,
    queue: mpsc::Receiver<(SourceName, Update)>,
    contact: Arc<Contact>,
    name: SourceName,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), shunt_core::source::SourceError>>,
    /// Removals seen so far.
    removed: usize,
}

impl Rig {
    /// A server with two Services, a slice, a Node and a ServiceCIDR, and then `prepare`.
    async fn start(prepare: impl FnOnce(&FaultyServer)) -> Result<Self> {
        let server = FaultyServer::start().await?;
        server.put("services", service("web", "10.96.0.1"));
        server.put("services", service("mail", "10.96.0.2"));
        server.put("endpointslices", slice("web-1", "web", "10.0.1.1"));
        server.put(
            "nodes",
            json!({
                "metadata": { "name": "node-a" },
                "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
            }),
        );
        server.put(
            "servicecidrs",
            json!({
                "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["10.96.0.0/16"] },
            }),
        );
        prepare(&server);
        let mut settings = KubeSettings::default();
        settings.master = Some(server.url());
        settings.silence = Duration::from_millis(300);
        settings.connect = Duration::from_millis(300);
        settings.longest_wait = Duration::from_millis(50);
        (settings.qps, settings.burst) = (1000.0, 1000);
        let source = KubeSource::new(Access::new(settings)?, &"node-a".into());
        let contact = source.contact();
        let (sender, queue) = mpsc::channel(64);
        let name = SourceName::new("kube");
        let updates = UpdateSender::new(name.clone(), sender);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(Box::new(source).run(updates, shutdown.clone()));
        let cluster = Cluster::new("node-a".into());
        Ok(Self { server, cluster, queue, contact, name, shutdown, running, removed: 0 })
    }

    /// Takes updates in until the model is as it should be.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Cluster) -> bool) -> Result<()> {
        let taking = async {
            while !is_so(&self.cluster) {
                let (source, update) = self.queue.recv().await.context("the source ended")?;
                self.removed += usize::from(matches!(update, Update::Remove(_)));
                self.cluster.apply(&source, update, &mut Dirty::default());
            }
            Ok(())
        };
        timeout(LIMIT, taking).await.with_context(|| format!("it never came to be so: {what}"))?
    }

    async fn until_synced(&mut self) -> Result<()> {
        let name = self.name.clone();
        self.until("synced", |cluster| cluster.synced(&name).is_some()).await
    }

    async fn until_services(&mut self, names: &[&str]) -> Result<()> {
        let expected: BTreeSet<&str> = names.iter().copied().collect();
        let what = format!("the Services {names:?}");
        self.until(&what, |cluster| {
            let found: BTreeSet<&str> =
                cluster.services().map(|service| &*service.name.name).collect();
            found == expected
        })
        .await
    }

    /// Waits until no watch is failing: with time-outs as short as these, one may be on a busy
    /// machine, and a watch that is found again says so by itself.
    async fn until_well(&self) -> Result<()> {
        let wait = async {
            while self.contact.lost_since().is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, wait).await.context("a watch goes on failing")
    }

    async fn end(self) -> Result<()> {
        self.shutdown.cancel();
        timeout(LIMIT, self.running).await.context("the source does not end")???;
        Ok(())
    }
}

fn service(name: &str, address: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default", "managedFields": [{ "manager": "x" }] },
        "spec": { "clusterIP": address, "ports": [{ "port": 80, "protocol": "TCP" }] },
    })
}

fn slice(name: &str, service: &str, address: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [address] }],
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
    })
}

#[tokio::test]
async fn everything_is_listed_and_then_followed() -> Result<()> {
    let mut rig = Rig::start(|_| ()).await?;
    rig.until_synced().await?;
    assert_eq!(rig.cluster.services().count(), 2);
    assert_eq!(rig.cluster.slices(&ObjectName::new("default", "web")).len(), 1);
    assert!(rig.cluster.node().is_some());
    assert_eq!(rig.cluster.service_cidrs().count(), 1);

    rig.server.put("services", service("new", "10.96.0.3"));
    rig.until_services(&["web", "mail", "new"]).await?;
    rig.server.delete("services", "default", "mail");
    rig.until_services(&["web", "new"]).await?;
    rig.server.put("endpointslices", slice("web-1", "web", "10.0.1.9"));
    rig.until("the endpoint's new address", |cluster| {
        let slices = cluster.slices(&ObjectName::new("default", "web"));
        slices.iter().any(|slice| slice.endpoints[0].address.to_string() == "10.0.1.9")
    })
    .await?;
    rig.until_well().await?;
    rig.end().await
}

/// Every fault, met at the first request and again by a watch that is open.
#[tokio::test]
async fn no_fault_keeps_the_model_from_what_the_server_has() -> Result<()> {
    let faults = [
        Fault::Status(410, 0),
        Fault::Status(422, 0),
        Fault::Status(429, 0),
        Fault::Status(500, 0),
        Fault::Status(401, 0),
        Fault::Status(403, 0),
        Fault::Silence,
        Fault::Stall,
        Fault::Cut(0),
        Fault::Cut(1),
        Fault::Garbage,
        Fault::Gone,
        Fault::Broken,
        Fault::Trickle,
        Fault::Twice,
        Fault::Shuffled,
        Fault::Noise,
    ];
    for fault in faults {
        let context = || format!("{fault:?}");
        let mut rig = Rig::start(|server| server.fail("services", fault)).await?;
        rig.until_synced().await.with_context(context)?;
        rig.until_services(&["web", "mail"]).await.with_context(context)?;
        assert_eq!(rig.removed, 0, "{fault:?} removed something");

        rig.server.fail("services", fault);
        rig.server.interrupt();
        rig.server.put("services", service("late", "10.96.0.7"));
        rig.server.delete("services", "default", "mail");
        rig.until_services(&["web", "late"]).await.with_context(context)?;
        assert_eq!(rig.removed, 1, "{fault:?} removed something else");
        rig.end().await.with_context(context)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_happened_during_an_outage_is_seen_after_it() -> Result<()> {
    let mut rig = Rig::start(|_| ()).await?;
    rig.until_synced().await?;
    for _ in 0..3 {
        rig.server.fail("services", Fault::Status(503, 0));
    }
    rig.server.interrupt();
    rig.server.delete("services", "default", "web");
    rig.server.put("services", service("new", "10.96.0.3"));
    rig.server.survived("services").await?;
    rig.until_services(&["mail", "new"]).await?;
    rig.until_well().await?;
    rig.end().await
}

#[tokio::test]
async fn an_object_that_cannot_be_read_removes_nothing() -> Result<()> {
    let mut rig = Rig::start(|_| ()).await?;
    rig.until_synced().await?;
    let mut broken = service("web", "10.96.0.1");
    broken["spec"]["ports"][0]["port"] = json!(0);
    rig.server.put("services", broken);
    rig.server.put("services", service("after", "10.96.0.4"));
    rig.until_services(&["web", "mail", "after"]).await?;
    // Nor does a list that has it in it.
    rig.server.fail("services", Fault::Gone);
    rig.server.interrupt();
    rig.server.survived("services").await?;
    rig.server.put("services", service("last", "10.96.0.5"));
    rig.until_services(&["web", "mail", "after", "last"]).await?;
    assert_eq!(rig.removed, 0);
    rig.end().await
}

#[tokio::test]
async fn what_is_refused_does_not_hold_up_the_rest() -> Result<()> {
    let mut rig = Rig::start(|server| {
        server.fail("servicecidrs", Fault::Status(404, 0));
        for _ in 0..1000 {
            server.fail("nodes", Fault::Status(403, 0));
        }
    })
    .await?;
    rig.until_synced().await?;
    assert_eq!(rig.cluster.services().count(), 2);
    assert!(rig.cluster.node().is_none());
    assert!(rig.contact.lost_since().is_some());
    rig.end().await
}

#[tokio::test]
async fn nothing_is_complete_before_services_and_slices_are_listed() -> Result<()> {
    let mut rig = Rig::start(|server| {
        for _ in 0..3 {
            server.fail("endpointslices", Fault::Status(403, 0));
        }
    })
    .await?;
    rig.until_synced().await?;
    assert!(rig.server.asked("endpointslices") > 3, "synced without slices");
    assert_eq!(rig.cluster.slices(&ObjectName::new("default", "web")).len(), 1);
    rig.end().await
}

/// A watch that says nothing but bookmarks is alive, and nothing is lost when it ends.
#[tokio::test]
async fn bookmarks_alone_are_no_failure() -> Result<()> {
    let mut rig = Rig::start(|server| server.fail("services", Fault::BookmarksOnly)).await?;
    rig.until_synced().await?;
    rig.server.put("services", service("late", "10.96.0.3"));
    // Another watch says what happened since, so the one of Services could have.
    rig.server.put("endpointslices", slice("late-1", "late", "10.0.1.2"));
    rig.until("the late slice", |cluster| {
        cluster.slices(&ObjectName::new("default", "late")).len() == 1
    })
    .await?;
    assert_eq!(rig.cluster.services().count(), 2);
    rig.until_well().await?;
    rig.server.interrupt();
    rig.until_services(&["web", "mail", "late"]).await?;
    assert_eq!(rig.removed, 0);
    rig.end().await
}
