//! Notices as events of the cluster, where `kubectl describe` shows them.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use metrics::counter;
use shunt_core::{
    model::ObjectName,
    notice::{LOST, Notice, Subject},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{access::Access, object::ApiObject, watch::in_words};
use crate::{notices::NoticeBoard, sources::objects::ObjectKind};

/// So many events may come at once, and one more every so often: the budget of a component that
/// nobody has to think of. What is over it stays a line of the log.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(24);
const PERIOD: Duration = Duration::from_secs(10);

/// How often an event is tried before it is given up, some minutes altogether.
const TRIES: usize = 10;

/// The longest note that the API takes.
const LONGEST_NOTE: usize = 1024;

/// Posts notices as events. The API's own way of counting those that repeat is the library's.
pub struct KubeEvents {
    access: Access,
    node_name: Arc<str>,
    budget: DefaultDirectRateLimiter,
    /// Kept as long as it works: it knows which events it has posted.
    recorder: Option<(Client, Recorder)>,
    /// Whether a failure was told of.
    fails: bool,
}

impl KubeEvents {
    /// Events about the node called `node_name`, and about Services.
    #[must_use]
    pub fn new(access: Access, node_name: &Arc<str>) -> Self {
        let quota = Quota::with_period(PERIOD).unwrap_or_else(|| Quota::per_minute(BURST));
        let budget = RateLimiter::direct(quota.allow_burst(BURST));
        let node_name = Arc::clone(node_name);
        Self { access, node_name, budget, recorder: None, fails: false }
    }

    /// Posts a notice, trying as often as is reasonable.
    async fn post(&mut self, notice: &Notice) {
        let longest = self.access.settings().longest_wait;
        let waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500).min(longest))
            .with_max_delay(longest)
            .with_jitter()
            .with_max_times(TRIES - 1)
            .build();
        for wait in waits.map(Some).chain([None]) {
            let Err(error) = self.try_to_post(notice).await else {
                self.fails = false;
                return;
            };
            // A refusal stands; a new client reads new credentials.
            self.recorder = None;
            let is_refused = matches!(&error, Failure::Api(kube::Error::Api(status))
                if (400..500).contains(&status.code) && status.code != 401 && status.code != 429);
            if !std::mem::replace(&mut self.fails, true) {
                let advice = if is_refused { " (RBAC: create and patch events)" } else { "" };
                let error = in_words(&error);
                warn!("events cannot be posted{advice}: {error}; the log has everything");
            } else {
                debug!("event {} is not posted: {}", notice.reason, in_words(&error));
            }
            match wait {
                Some(wait) if !is_refused => sleep(wait).await,
                _ => break,
            }
        }
        counter!(LOST).increment(1);
    }

    async fn try_to_post(&mut self, notice: &Notice) -> Result<(), Failure> {
        let (client, recorder) = match &self.recorder {
            Some(kept) => kept.clone(),
            None => {
                let client = self.access.client(|| ()).map_err(Failure::Access)?;
                let instance = Some(format!("shunt-{}", self.node_name));
                let reporter = Reporter { controller: "shunt".to_owned(), instance };
                let recorder = Recorder::new(client.clone(), reporter);
                self.recorder.insert((client, recorder)).clone()
            }
        };
        let about = match &notice.about {
            Subject::Node => self.node(),
            Subject::Service(name) => service(client, name).await.map_err(Failure::Api)?,
        };
        let event = Event {
            type_: if notice.is_warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason.to_owned(),
            note: Some(shortened(&notice.note)),
            action: notice.action.to_owned(),
            secondary: None,
        };
        recorder.publish(&event, &about).await.map_err(Failure::Api)
    }

    /// The Node, with its name for a UID as the kubelet has it: `kubectl describe` finds those.
    fn node(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(self.node_name.to_string()),
            uid: Some(self.node_name.to_string()),
            ..ObjectReference::default()
        }
    }
}

#[async_trait]
impl NoticeBoard for KubeEvents {
    async fn run(
        mut self: Box<Self>,
        mut notices: mpsc::Receiver<Notice>,
        shutdown: CancellationToken,
    ) {
        let posting = async {
            while let Some(notice) = notices.recv().await {
                if self.budget.check().is_ok() {
                    self.post(&notice).await;
                } else {
                    debug!("event {} is one too many", notice.reason);
                    counter!(LOST).increment(1);
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => (),
            () = posting => (),
        }
    }
}

/// Why an event was not posted.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Access(super::AccessError),
    #[error(transparent)]
    Api(kube::Error),
}

/// A Service, with its UID: `kubectl describe` finds no events without. The model does not keep
/// it, for 16 bytes times 10,000; it is asked for by a list of one, which the role allows.
async fn service(client: Client, name: &ObjectName) -> Result<ObjectReference, kube::Error> {
    let kind = ObjectKind::Service;
    let services = Api::<ApiObject>::namespaced_with(client, &name.namespace, &kind);
    let only = ListParams::default().fields(&format!("metadata.name={}", name.name));
    let found = services.list_metadata(&only).await?;
    let is_it = |metadata: &&kube::core::ObjectMeta| metadata.name.as_deref() == Some(&*name.name);
    let metadata = found.items.iter().map(|item| &item.metadata).find(is_it);
    Ok(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_string()),
        namespace: Some(name.namespace.to_string()),
        name: Some(name.name.to_string()),
        uid: metadata.and_then(|metadata| metadata.uid.clone()),
        ..ObjectReference::default()
    })
}

/// A note that the API takes, cut at the end of a character.
fn shortened(note: &str) -> String {
    if note.len() <= LONGEST_NOTE {
        return note.to_owned();
    }
    let end = note.floor_char_boundary(LONGEST_NOTE - '…'.len_utf8());
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_at_the_end_of_a_character() {
        assert_eq!(shortened("as it is"), "as it is");
        let long = "ü".repeat(LONGEST_NOTE);
        let cut = shortened(&long);
        assert!(cut.len() <= LONGEST_NOTE && cut.len() > LONGEST_NOTE - 6, "{}", cut.len());
        assert!(cut.starts_with("üü") && cut.ends_with("ü…"));
    }
}
