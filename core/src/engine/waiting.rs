//! What is planned and not in the kernel yet, and since when: pure.

use std::{collections::VecDeque, time::SystemTime};

use tokio::time::Instant;

use crate::{
    model::{Family, PerFamily},
    plan::{Delta, ServicePortKey},
};

/// Changes since the start, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Updates that were taken in.
    pub(super) updates: u64,
    /// Changes of Services that had to be planned.
    pub(super) services: u64,
    /// Changes of EndpointSlices that had to be planned.
    pub(super) slices: u64,
}

/// The moment at which something happened in the cluster that an EndpointSlice tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) family: Family,
    pub(super) at: SystemTime,
}

/// More triggers than that are not remembered while they wait: a sample is as good as all.
const MOST_TRIGGERS: usize = 10_000;

/// Since when each family has been waiting for one backend.
///
/// What is newer waits behind what is under way, so that an apply which ends leaves the newer, and
/// one which fails leaves the older of the two.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pending: Since,
    applying: Since,
    failed: Since,
    /// With the number of updates for which each stands.
    triggers: VecDeque<(u64, Trigger)>,
}

type Since = PerFamily<Option<Instant>>;

impl Waiting {
    /// A change of these families is to be applied.
    pub(super) fn queue(&mut self, families: PerFamily<bool>, now: Instant) {
        for family in Family::ALL.into_iter().filter(|family| families[*family]) {
            self.pending[family].get_or_insert(now);
        }
    }

    /// What waits is being applied.
    pub(super) fn begin(&mut self) {
        self.applying = std::mem::take(&mut self.pending);
    }

    /// Nothing of what was being applied is in the kernel.
    pub(super) fn refuse(&mut self) {
        let applying = std::mem::take(&mut self.applying);
        self.pending = PerFamily::of(|family| earlier(applying[family], self.pending[family]));
    }

    /// What was being applied is in the kernel, but for these ServicePorts.
    pub(super) fn end<'a>(
        &mut self,
        failed: impl Iterator<Item = &'a ServicePortKey> + Clone,
        now: Instant,
    ) {
        let applying = std::mem::take(&mut self.applying);
        self.failed = PerFamily::of(|family| {
            let still = failed.clone().any(|key| key.family == family);
            let since = earlier(self.failed[family], applying[family]);
            still.then(|| since.unwrap_or(now))
        });
    }

    /// Everything that was planned is in the kernel.
    pub(super) fn settle(&mut self) {
        self.pending = Since::default();
        self.failed = Since::default();
    }

    /// Since when a family has been waiting.
    pub(super) fn since(&self, family: Family) -> Option<Instant> {
        let under_way = earlier(self.applying[family], self.pending[family]);
        earlier(under_way, self.failed[family])
    }

    /// These will be in the kernel with that many updates.
    pub(super) fn remember(&mut self, updates: u64, triggers: &[Trigger]) {
        let room = MOST_TRIGGERS.saturating_sub(self.triggers.len());
        self.triggers.extend(triggers.iter().take(room).map(|trigger| (updates, *trigger)));
    }

    /// Those that are in the kernel, now that this many updates are.
    pub(super) fn arrived(&mut self, updates: u64) -> impl Iterator<Item = Trigger> {
        let count = self.triggers.iter().take_while(|(number, _)| *number <= updates).count();
        self.triggers.drain(..count).map(|(_, trigger)| trigger)
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// The families of which a Delta changes something.
pub(super) fn families(delta: &Delta) -> PerFamily<bool> {
    if delta.complete || delta.node.is_some() {
        return PerFamily::of(|_| true);
    }
    PerFamily::of(|family| {
        delta.service_ports.keys().any(|key| key.family == family)
            || delta.cluster_ips.keys().any(|address| Family::of(*address) == family)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{ObjectName, Protocol};

    const V4: fn() -> PerFamily<bool> = || PerFamily::of(|family| family == Family::V4);
    const BOTH: fn() -> PerFamily<bool> = || PerFamily::of(|_| true);

    fn key(family: Family) -> ServicePortKey {
        ServicePortKey {
            service: ObjectName::new("default", "web"),
            port: "".into(),
            protocol: Protocol::Tcp,
            family,
        }
    }

    /// What happens at each second, and since which second each family waits after it.
    fn check(steps: &[(&str, [Option<u64>; 2])]) {
        let begin = Instant::now();
        let mut waiting = Waiting::default();
        for (second, (step, expected)) in (0..).zip(steps) {
            let now = begin + Duration::from_secs(second);
            match *step {
                "queue v4" => waiting.queue(V4(), now),
                "queue both" => waiting.queue(BOTH(), now),
                "begin" => waiting.begin(),
                "refuse" => waiting.refuse(),
                "end" => waiting.end([].iter(), now),
                "end without v6" => waiting.end([key(Family::V6)].iter(), now),
                "settle" => waiting.settle(),
                other => unreachable!("{other}"),
            }
            let since = Family::ALL.map(|family| {
                waiting.since(family).map(|since| since.duration_since(begin).as_secs())
            });
            assert_eq!(since, *expected, "after step {second}, {step}, of {steps:?}");
        }
    }

    #[test]
    fn who_waits_longest_counts_until_it_is_in_the_kernel() {
        check(&[
            ("queue v4", [Some(0), None]),
            ("queue both", [Some(0), Some(1)]),
            ("begin", [Some(0), Some(1)]),
            ("queue v4", [Some(0), Some(1)]),
            ("end", [Some(3), None]),
            ("begin", [Some(3), None]),
            ("end", [None, None]),
        ]);
        check(&[
            ("queue v4", [Some(0), None]),
            ("begin", [Some(0), None]),
            ("queue both", [Some(0), Some(2)]),
            ("refuse", [Some(0), Some(2)]),
            ("settle", [None, None]),
        ]);
    }

    #[test]
    fn what_failed_goes_on_waiting_and_other_families_do_not() {
        check(&[
            ("queue both", [Some(0), Some(0)]),
            ("begin", [Some(0), Some(0)]),
            ("end without v6", [None, Some(0)]),
            ("queue v4", [Some(3), Some(0)]),
            ("begin", [Some(3), Some(0)]),
            ("end without v6", [None, Some(0)]),
            ("begin", [None, Some(0)]),
            ("end", [None, None]),
        ]);
        // What is lost without having been queued waits from then on.
        check(&[("end without v6", [None, Some(0)])]);
    }

    #[test]
    fn triggers_arrive_with_their_updates() {
        let mut waiting = Waiting::default();
        let trigger = |second| Trigger {
            family: Family::V4,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
        };
        waiting.remember(3, &[trigger(1), trigger(2)]);
        waiting.remember(5, &[trigger(3)]);
        assert_eq!(waiting.arrived(2).count(), 0);
        assert_eq!(waiting.arrived(4).collect::<Vec<_>>(), [trigger(1), trigger(2)]);
        assert_eq!(waiting.arrived(5).collect::<Vec<_>>(), [trigger(3)]);
        waiting.remember(6, &vec![trigger(4); MOST_TRIGGERS + 1]);
        assert_eq!(waiting.arrived(6).count(), MOST_TRIGGERS, "they do not grow without end");
    }
}
