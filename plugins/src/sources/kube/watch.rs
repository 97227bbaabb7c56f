//! One watch, kept going whatever happens.

use std::{
    error::Error,
    fmt::Write as _,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::StreamExt as _;
use kube::{
    Api,
    runtime::watcher::{self, Event, watcher},
};
use shunt_core::{Update, source::UpdateSender};
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::{
    access::{Access, AccessError},
    contact::Contact,
    listing::Listing,
    object::{ApiObject, plural},
    source::Settled,
};
use crate::sources::objects::{Names, ObjectKind};

/// The first wait after a failure; each further one is twice as long, with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// So many objects of a list are told together: the server sends each by itself, and who is told
/// of them is woken for each.
const PORTION: usize = 64;

/// How long an API that does not exist is left alone.
const ABSENT_WAIT: Duration = Duration::from_secs(600);

/// Follows the objects of one kind.
pub(super) struct Watch {
    kind: ObjectKind,
    /// What of the kind is wanted.
    wanted: Wanted,
    access: Arc<Access>,
    contact: Arc<Contact>,
    listing: Listing,
    /// What was seen and the engine was not told.
    untold: Vec<Update>,
    /// Whether the server can stream a list. Supposed until it refuses.
    streams: bool,
    waits: ExponentialBackoff,
}

/// A selection of objects by the server.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    All,
    Labels(&'static str),
    Name(Arc<str>),
}

/// Why a watch stopped, for now.
#[derive(Debug)]
enum Stop {
    Access(AccessError),
    Watch(watcher::Error),
    /// The stream ended, which it never should.
    End,
}

impl Watch {
    pub(super) fn new(
        kind: ObjectKind,
        wanted: Wanted,
        access: &Arc<Access>,
        contact: &Arc<Contact>,
        names: &Arc<Mutex<Names>>,
    ) -> Self {
        Self {
            kind,
            wanted,
            access: Arc::clone(access),
            contact: Arc::clone(contact),
            listing: Listing::new(kind, names),
            untold: Vec::new(),
            streams: true,
            waits: waits(access),
        }
    }

    /// Follows for ever; returns `None` when nobody listens any more.
    pub(super) async fn follow(
        mut self,
        updates: &UpdateSender,
        settled: &Settled,
    ) -> Option<std::convert::Infallible> {
        loop {
            let stop = self.watch(updates, settled).await?;
            self.recover(&stop, settled).await;
        }
    }

    /// Lists and watches until something happens after which a new client or a new list is needed.
    async fn watch(&mut self, updates: &UpdateSender, settled: &Settled) -> Option<Stop> {
        let (contact, kind) = (Arc::clone(&self.contact), self.kind);
        let heard = move || {
            if let Some(since) = contact.found(kind, Instant::now()) {
                let outage = since.elapsed().as_secs_f32();
                info!("{} of the API server are seen again, after {outage:.1} s", plural(kind));
            }
        };
        let client = match self.access.client(heard) {
            Ok(client) => client,
            Err(error) => return Some(Stop::Access(error)),
        };
        let api = Api::<ApiObject>::all_with(client, &self.kind);
        let mut events = pin!(watcher(api, self.config()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(event, updates, settled).await?,
                Err(error) => {
                    self.tell(updates).await?;
                    if Remedy::of(&error) != Remedy::Resume {
                        return Some(Stop::Watch(error));
                    }
                    self.recover(&Stop::Watch(error), settled).await;
                }
            }
        }
        Some(Stop::End)
    }

    fn config(&self) -> watcher::Config {
        let config = watcher::Config::default().any_semantic();
        let config = if self.streams { config.streaming_lists() } else { config };
        match &self.wanted {
            Wanted::All => config,
            Wanted::Labels(labels) => config.labels(labels),
            Wanted::Name(name) => config.fields(&format!("metadata.name={name}")),
        }
    }

    async fn take(
        &mut self,
        event: Event<ApiObject>,
        updates: &UpdateSender,
        settled: &Settled,
    ) -> Option<()> {
        // A list begins before the server was asked for it.
        if !matches!(event, Event::Init) {
            self.waits = waits(&self.access);
        }
        let told = self.listing.take(event);
        for error in &told.errors {
            error!("{error}; what was last seen of it stays");
        }
        for warning in &told.warnings {
            warn!("{warning}");
        }
        self.untold.extend(told.updates);
        if !self.listing.is_under_way() || self.untold.len() >= PORTION {
            self.tell(updates).await?;
        }
        if told.complete {
            debug!("{} of the API server are listed", plural(self.kind));
            self.say_absent();
            settled.settle(self.kind);
        }
        Some(())
    }

    /// Tells the engine what was seen.
    async fn tell(&mut self, updates: &UpdateSender) -> Option<()> {
        updates.send_all(self.untold.drain(..)).await.then_some(())
    }

    fn say_absent(&self) {
        if let Wanted::Name(name) = &self.wanted
            && self.listing.is_empty()
        {
            warn!(
                "the cluster has no {} {name}: if it is registered under another name, give \
                 --hostname-override",
                self.kind
            );
        }
    }

    /// Says what happened, once, and waits before the next try.
    async fn recover(&mut self, stop: &Stop, settled: &Settled) {
        let remedy = match stop {
            Stop::Watch(error) => Remedy::of(error),
            Stop::Access(_) | Stop::End => Remedy::Restart,
        };
        if remedy == Remedy::ListPlainly && self.streams {
            debug!("the API server does not stream lists of {}", plural(self.kind));
            self.streams = false;
            return;
        }
        if stop.is_broken_off() && self.contact.was_open(self.kind, Instant::now()) {
            // Where nothing changes, some servers say nothing at all until the watch is given up.
            debug!("a watch of {} is opened anew: {}", plural(self.kind), stop.words());
            return;
        }
        let wait = self.waits.next().unwrap_or(FIRST_WAIT);
        let asked = if let Stop::Watch(error) = stop { retry_after(error) } else { None };
        let wait = wait.max(asked.unwrap_or_default());
        if remedy == Remedy::DoWithout && self.kind == ObjectKind::ServiceCidr {
            // Clusters before 1.33 have none; then the rule that needs them is off.
            if settled.settle(self.kind) {
                info!("the API server has no {}: nothing depends on them here", plural(self.kind));
            }
            sleep(ABSENT_WAIT).await;
            return;
        }
        let resource = plural(self.kind);
        if self.contact.lost(self.kind, Instant::now()) {
            let advice = match remedy {
                Remedy::AskLeave => " (RBAC: the verbs list and watch are needed)",
                _ => "",
            };
            error!(
                "{resource} of the API server cannot be seen{advice}: {}; what is served stays as \
                 it is",
                stop.words()
            );
        } else {
            debug!("{resource} of the API server cannot be seen: {}", stop.words());
        }
        // Without leave there is nothing to wait for; Services and slices are another matter.
        let is_needed = matches!(self.kind, ObjectKind::Service | ObjectKind::EndpointSlice);
        if matches!(remedy, Remedy::AskLeave | Remedy::DoWithout) && !is_needed {
            settled.settle(self.kind);
        }
        sleep(wait).await;
    }
}

fn waits(access: &Access) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT.min(access.settings().longest_wait))
        .with_max_delay(access.settings().longest_wait)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

impl Stop {
    /// Whether a watch that was open went silent or lost its connection.
    const fn is_broken_off(&self) -> bool {
        matches!(self, Self::Watch(watcher::Error::WatchFailed(kube::Error::ReadEvents(_))))
    }

    fn words(&self) -> String {
        match self {
            Self::End => "the watch ended".to_owned(),
            Self::Access(error) => in_words(error),
            Self::Watch(error) => in_words(error),
        }
    }
}

/// An error and its causes in one line. Some of the library's errors say their cause themselves,
/// so what was said already is not said twice.
pub(super) fn in_words(error: &dyn Error) -> String {
    let (mut words, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            // Writing to a String cannot fail.
            let _ = write!(words, ": {text}");
        }
        cause = error.source();
    }
    words
}

/// What helps after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Go on where the watch was.
    Resume,
    /// List anew, with credentials read anew.
    Restart,
    /// List in the old way.
    ListPlainly,
    /// An operator has to allow it.
    AskLeave,
    /// There is no such API.
    DoWithout,
}

impl Remedy {
    fn of(error: &watcher::Error) -> Self {
        let (cause, starts) = match error {
            watcher::Error::InitialListFailed(cause) => (cause, false),
            watcher::Error::WatchStartFailed(cause) => (cause, true),
            watcher::Error::WatchFailed(cause) => (cause, false),
            // The library lists anew by itself after 410.
            watcher::Error::WatchError(_) => return Self::Resume,
            watcher::Error::NoResourceVersion => return Self::Restart,
        };
        match cause {
            kube::Error::Api(status) => match status.code {
                400 | 422 if starts => Self::ListPlainly,
                403 => Self::AskLeave,
                404 => Self::DoWithout,
                401 | 410 => Self::Restart,
                _ => Self::Resume,
            },
            kube::Error::ReadEvents(_) => Self::Resume,
            // What was skipped may have mattered, and a certificate may have been exchanged.
            _ => Self::Restart,
        }
    }
}

/// How long the server asks to wait.
fn retry_after(error: &watcher::Error) -> Option<Duration> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return None;
    };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("no", "Reason").with_code(code).boxed())
    }

    #[test]
    fn each_error_has_its_remedy() {
        use watcher::Error::{
            InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
        };
        let garbage = || serde_json::from_str::<u8>("{").unwrap_err();
        let status = Status::failure("gone", "Expired").with_code(410).boxed();
        for (error, expected) in [
            (WatchStartFailed(api(422)), Remedy::ListPlainly),
            (InitialListFailed(api(422)), Remedy::Resume),
            (WatchStartFailed(api(403)), Remedy::AskLeave),
            (InitialListFailed(api(404)), Remedy::DoWithout),
            (WatchStartFailed(api(401)), Remedy::Restart),
            (WatchStartFailed(api(410)), Remedy::Restart),
            (WatchError(status), Remedy::Resume),
            (WatchStartFailed(api(429)), Remedy::Resume),
            (WatchStartFailed(api(503)), Remedy::Resume),
            (WatchFailed(kube::Error::SerdeError(garbage())), Remedy::Restart),
            (WatchFailed(kube::Error::ReadEvents(std::io::Error::other("reset"))), Remedy::Resume),
            (WatchFailed(kube::Error::Service("no route".into())), Remedy::Restart),
            (NoResourceVersion, Remedy::Restart),
        ] {
            assert_eq!(Remedy::of(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn causes_are_said_once() {
        let error = watcher::Error::WatchFailed(kube::Error::Service("no route".into()));
        let words = Stop::Watch(error).words();
        assert_eq!(words.matches("no route").count(), 1, "{words}");
    }
}
