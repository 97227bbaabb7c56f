//! What a backend leaves to others, and what of it for want of room.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tracing::info;

use crate::{
    backend::{ApplyReport, LeftReason},
    notice::{Notice, Notices},
    plan::{Delta, ServicePortKey},
};

/// ServicePorts that a backend leaves to others, and why.
type Reasons = HashMap<ServicePortKey, LeftReason>;

/// How many ServicePorts find no room, by the table that is full. A table is told of once, when
/// it becomes full.
#[derive(Debug, Default)]
pub(super) struct Left {
    full: BTreeMap<&'static str, usize>,
}

impl Left {
    /// ServicePorts that find no room.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay below 2^53")]
    pub(super) fn for_want_of_room(&self) -> f64 {
        self.full.values().sum::<usize>() as f64
    }

    /// Takes in what an apply, that did not fail as a whole, left.
    pub(super) fn take(
        &mut self,
        backend: &str,
        delta: &Delta,
        report: &ApplyReport,
        left: &mut Arc<Reasons>,
        notices: &Notices,
    ) {
        // Most clusters and most changes have nothing to do with what is left.
        if report.left.is_empty() && left.is_empty() {
            return;
        }
        let left = Arc::make_mut(left);
        let before = if delta.complete { std::mem::take(left) } else { HashMap::new() };
        let mut is_about_room = delta.complete;
        let mut say = |key: &ServicePortKey, was: Option<&LeftReason>, is: Option<&LeftReason>| {
            if was == is {
                return;
            }
            is_about_room |= [was, is].into_iter().flatten().any(|why| full(why).is_some());
            match is {
                Some(reason) => info!(backend, "{key} is left to others: {reason}"),
                None => info!(backend, "{key} is no longer left to others"),
            }
        };
        for key in delta.service_ports.keys() {
            let was = left.remove(key).or_else(|| before.get(key).cloned());
            let is = report.left.get(key);
            say(key, was.as_ref(), is);
            if let Some(reason) = is {
                left.insert(key.clone(), reason.clone());
            }
        }
        for key in &report.taken {
            let was = left.remove(key);
            say(key, was.as_ref(), None);
        }
        if is_about_room {
            self.count(backend, left, notices);
        }
    }

    /// Counts anew. This looks at everything that is left, but only where room is short.
    fn count(&mut self, backend: &str, left: &Reasons, notices: &Notices) {
        let mut full: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut examples = BTreeMap::new();
        for (key, reason) in left {
            if let LeftReason::Full(table) = reason {
                *full.entry(*table).or_default() += 1;
                examples.entry(*table).or_insert(key);
            }
        }
        for (table, key) in examples {
            if !self.full.contains_key(table) {
                let note = format!(
                    "Table {table} of backend {backend} is full: {key} and what else finds no \
                     room is left to others; --table-size {table}=N makes room"
                );
                notices.give(Notice::warn_of_node("TableFull", "Apply", note));
            }
        }
        self.full = full;
    }
}

const fn full(reason: &LeftReason) -> Option<&'static str> {
    match reason {
        LeftReason::Full(table) => Some(*table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, ObjectName, Protocol};

    fn key(name: &str) -> ServicePortKey {
        ServicePortKey {
            service: ObjectName::new("default", name),
            port: "".into(),
            protocol: Protocol::Tcp,
            family: Family::V4,
        }
    }

    #[test]
    fn a_table_that_becomes_full_is_told_of_once() {
        let (notices, mut taken) = Notices::new();
        let (mut left, mut reasons) = (Left::default(), Arc::default());
        let mut apply = |complete, named: &[&str], full: &[&str], room: f64, told: bool| {
            let delta = Delta {
                complete,
                service_ports: named.iter().map(|name| (key(name), None)).collect(),
                ..Delta::default()
            };
            let reason = |name: &&str| (key(name), LeftReason::Full("endpoints"));
            let report =
                ApplyReport { left: full.iter().map(reason).collect(), ..ApplyReport::default() };
            left.take("connect", &delta, &report, &mut reasons, &notices);
            assert!((left.for_want_of_room() - room).abs() < 0.1, "{named:?}");
            let notice = taken.try_recv().ok();
            assert_eq!(notice.is_some(), told, "{named:?}: {notice:?}");
            assert!(notice.is_none_or(|notice| notice.note.contains("endpoints")));
        };
        apply(true, &["a", "b"], &[], 0.0, false);
        apply(false, &["a"], &["a"], 1.0, true);
        apply(false, &["b"], &["b"], 2.0, false);
        apply(true, &["a", "b"], &["a", "b"], 2.0, false);
        apply(false, &["a"], &[], 1.0, false);
        apply(true, &["a"], &[], 0.0, false);
        apply(false, &["b"], &["b"], 1.0, true);
    }
}
