//! What operators are told about an object, where they look at the object.
//!
//! A notice is a word beside the log line, never instead of it: whoever follows the log misses
//! nothing where nobody takes notices, or some are lost.

use metrics::{counter, describe_counter};
use tokio::sync::mpsc;

use crate::model::ObjectName;

/// What operators are told about an object. In Kubernetes it becomes an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub about: Subject,
    /// Whether someone should look at it.
    pub is_warning: bool,
    /// Why it is said, in one word for programs: `Starting`.
    pub reason: &'static str,
    /// What was being done, in one word for programs: `StartKubeProxy`.
    pub action: &'static str,
    /// The same for people.
    pub note: String,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The own Node.
    Node,
    /// A Service.
    Service(ObjectName),
}

impl Notice {
    /// Something about the own Node that is as it should be.
    #[must_use]
    pub const fn of_node(reason: &'static str, action: &'static str, note: String) -> Self {
        Self { about: Subject::Node, is_warning: false, reason, action, note }
    }

    /// Something about the own Node that someone should look at.
    #[must_use]
    pub const fn warn_of_node(reason: &'static str, action: &'static str, note: String) -> Self {
        Self { about: Subject::Node, is_warning: true, reason, action, note }
    }

    /// Something about a Service that someone should look at.
    #[must_use]
    pub const fn warn_of_service(
        service: ObjectName,
        reason: &'static str,
        action: &'static str,
        note: String,
    ) -> Self {
        Self { about: Subject::Service(service), is_warning: true, reason, action, note }
    }
}

/// Where notices are given. Giving one never waits: where nobody takes them as fast, they are
/// lost and counted.
#[derive(Clone, Debug, Default)]
pub struct Notices(Option<mpsc::Sender<Notice>>);

/// So many notices may wait. More than that nobody reads.
const ROOM: usize = 256;

impl Notices {
    /// Where notices are given, and where they are taken. Without this, with the default, nobody
    /// takes any.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Notice>) {
        describe_counter!(LOST, "Events that were not posted: too many, or the API refused.");
        counter!(LOST).increment(0);
        let (sender, receiver) = mpsc::channel(ROOM);
        (Self(Some(sender)), receiver)
    }

    /// Gives a notice.
    pub fn give(&self, notice: Notice) {
        if let Some(sender) = &self.0
            && sender.try_send(notice).is_err()
        {
            counter!(LOST).increment(1);
        }
    }
}

/// The metric that counts notices which reached nobody.
pub const LOST: &str = "shunt_events_lost_total";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_never_waits() {
        let (notices, mut taken) = Notices::new();
        let notice = |number: usize| Notice::of_node("Test", "Test", number.to_string());
        (0..ROOM + 10).for_each(|number| notices.give(notice(number)));
        for number in 0..ROOM {
            assert_eq!(taken.try_recv(), Ok(notice(number)));
        }
        assert!(taken.try_recv().is_err(), "what there is no room for is lost");
        drop(taken);
        notices.give(notice(0));
        Notices::default().give(notice(0));
    }
}
