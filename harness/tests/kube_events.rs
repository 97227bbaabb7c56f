//! Notices become events of the cluster, whatever the API server does.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use shunt_core::{
    model::ObjectName,
    notice::{Notice, Notices},
};
use shunt_harness::apiserver::{Fault, FaultyServer};
use shunt_plugins::{
    KubeSettings, NoticeBoard as _,
    sources::kube::{Access, KubeEvents},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A server, and what posts events to it.
struct Rig {
    server: FaultyServer,
    notices: Notices,
    shutdown: CancellationToken,
    posting: JoinHandle<()>,
}

impl Rig {
    async fn start() -> Result<Self> {
        let server = FaultyServer::start().await?;
        let service = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "0815" },
            "spec": { "clusterIP": "10.96.0.1" },
        });
        server.put("services", service);
        let mut settings = KubeSettings::default();
        settings.master = Some(server.url());
        settings.silence = Duration::from_millis(300);
        settings.connect = Duration::from_millis(300);
        settings.longest_wait = Duration::from_millis(20);
        (settings.qps, settings.burst) = (1000.0, 1000);
        let board = KubeEvents::new(Access::new(settings)?, &"node-a".into());
        let (notices, given) = Notices::new();
        let shutdown = CancellationToken::new();
        let posting = tokio::spawn(Box::new(board).run(given, shutdown.clone()));
        Ok(Self { server, notices, shutdown, posting })
    }

    fn start_of(&self, note: &str) {
        let notice = Notice::of_node("Starting", "StartKubeProxy", note.to_owned());
        self.notices.give(notice);
    }

    async fn until_reasons(&self, reasons: &[&str]) -> Result<Vec<Value>> {
        let found = |events: &[Value]| {
            let mut found: Vec<_> = events.iter().map(|event| &event["reason"]).collect();
            found.sort_by_key(|reason| reason.as_str());
            found == reasons
        };
        self.server.until("events", found).await
    }

    async fn end(self) -> Result<()> {
        self.shutdown.cancel();
        Ok(self.posting.await?)
    }
}

#[tokio::test]
async fn a_notice_of_the_node_is_found_by_kubectl_describe() -> Result<()> {
    let rig = Rig::start().await?;
    rig.start_of("");
    let events = rig.until_reasons(&["Starting"]).await?;
    let event = &events[0];
    for (pointer, expected) in [
        ("/metadata/namespace", "default"),
        ("/regarding/kind", "Node"),
        ("/regarding/name", "node-a"),
        ("/regarding/uid", "node-a"),
        ("/type", "Normal"),
        ("/action", "StartKubeProxy"),
        ("/reportingController", "shunt"),
        ("/reportingInstance", "shunt-node-a"),
    ] {
        assert_eq!(event.pointer(pointer), Some(&json!(expected)), "{pointer} of {event}");
    }
    rig.end().await
}

#[tokio::test]
async fn a_notice_of_a_service_has_its_uid_and_lies_in_its_namespace() -> Result<()> {
    let rig = Rig::start().await?;
    for (name, reason) in [("web", "FrontendClash"), ("gone", "DuplicatePort")] {
        let name = ObjectName::new("shop", name);
        let note = "Two want one.".to_owned();
        rig.notices.give(Notice::warn_of_service(name, reason, "Plan", note));
    }
    let events = rig.until_reasons(&["DuplicatePort", "FrontendClash"]).await?;
    let of = |reason: &str| events.iter().find(|event| event["reason"] == reason).unwrap();
    let event = of("FrontendClash");
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert_eq!(event["regarding"]["uid"], "0815", "{event}");
    assert_eq!((&event["type"], &event["note"]), (&json!("Warning"), &json!("Two want one.")));
    assert_eq!(of("DuplicatePort")["regarding"]["uid"], Value::Null);
    rig.end().await
}

#[tokio::test]
async fn what_repeats_is_counted_in_one_event() -> Result<()> {
    let rig = Rig::start().await?;
    (0..3).for_each(|_| rig.start_of("again"));
    let counted = |events: &[Value]| events.iter().any(|event| event["series"]["count"] == 3);
    let events = rig.server.until("events", counted).await?;
    assert_eq!(events.len(), 1, "{events:?}");
    rig.end().await
}

#[tokio::test]
async fn what_the_server_fails_to_take_is_tried_again_and_what_it_refuses_is_not() -> Result<()> {
    let rig = Rig::start().await?;
    let faults = [Fault::Status(503, 0), Fault::Silence, Fault::Noise, Fault::Status(429, 0)];
    for fault in faults {
        rig.server.fail("events", fault);
    }
    rig.start_of("in spite of all");
    let posted = |events: &[Value]| events.iter().any(|event| event["note"] == "in spite of all");
    rig.server.until("events", posted).await?;
    let asked = rig.server.asked("events");

    rig.server.fail("events", Fault::Status(403, 0));
    let notice = Notice::warn_of_node("Degraded", "Serve", "refused".to_owned());
    rig.notices.give(notice);
    let notice = Notice::warn_of_node("Unhealthy", "Serve", "taken".to_owned());
    rig.notices.give(notice);
    let posted = |events: &[Value]| events.iter().any(|event| event["reason"] == "Unhealthy");
    let events = rig.server.until("events", posted).await?;
    assert!(events.iter().all(|event| event["reason"] != "Degraded"), "{events:?}");
    assert_eq!(rig.server.asked("events"), asked + 2);
    rig.end().await
}

#[tokio::test]
async fn a_flood_is_cut_off() -> Result<()> {
    let rig = Rig::start().await?;
    for number in 0..100 {
        let name = ObjectName::new("shop", &format!("web-{number}"));
        let note = "Two want one.".to_owned();
        rig.notices.give(Notice::warn_of_service(name, "FrontendClash", "Plan", note));
    }
    let some = |events: &[Value]| events.len() >= 25;
    rig.server.until("events", some).await?;
    drop(rig.notices);
    rig.posting.await?;
    // One may have been allowed while the others were posted.
    assert!(rig.server.objects("events").len() <= 27, "{}", rig.server.objects("events").len());
    Ok(())
}
