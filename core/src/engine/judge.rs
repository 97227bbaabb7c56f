//! Says how things stand when that changes: in the log, in metrics and to operators.

use std::{mem, time::Duration};

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Health, Ineligible, Status, meters::Meters};
use crate::{
    model::{Family, PerFamily},
    notice::{Notice, Notices},
    plan::Warning,
};

/// How things stood when it was last said.
pub(super) struct Judge {
    patience: Duration,
    notices: Notices,
    health: PerFamily<Health>,
    ineligible: Option<Ineligible>,
}

impl Judge {
    pub(super) fn new(patience: Duration, notices: Notices) -> Self {
        let health = PerFamily::of(|_| Health::Healthy);
        Self { patience, notices, health, ineligible: None }
    }

    pub(super) const fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Says what changed.
    pub(super) fn judge(&mut self, status: &Status) {
        let now = Instant::now();
        let before = PerFamily::of(|family| {
            let health = status.health(family, now, self.patience);
            mem::replace(&mut self.health[family], health)
        });
        let is_new = |family: &Family| self.health[*family] != before[*family];
        for health in [Health::Healthy, Health::Degraded, Health::Unhealthy] {
            let families = Family::ALL.into_iter().filter(is_new);
            let families: Vec<_> = families.filter(|it| self.health[*it] == health).collect();
            if !families.is_empty() {
                self.say_health(&families, health, status);
            }
        }
        if mem::replace(&mut self.ineligible, status.ineligible) != status.ineligible {
            match status.ineligible {
                Some(why) => warn!("this Node should get no new connections: {why}"),
                None => info!("this Node may get new connections again"),
            }
        }
    }

    /// Families that stand alike are told of together.
    fn say_health(&self, families: &[Family], health: Health, status: &Status) {
        families.iter().for_each(|family| Meters::health(*family, health));
        let names: Vec<String> = families.iter().map(ToString::to_string).collect();
        let names = names.join(" and ");
        let verb = if families.len() == 1 { "is" } else { "are" };
        let troubled: Vec<_> =
            status.backends.iter().filter(|(_, backend)| !backend.problems.is_empty()).collect();
        let who = troubled.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let why = troubled.iter().flat_map(|(_, backend)| &backend.problems).next();
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        let notice = match health {
            Health::Healthy => {
                let note = format!("{names} {verb} healthy again");
                info!("{note}");
                Notice::of_node("Recovered", "Serve", note)
            }
            Health::Degraded => {
                let note = format!("{names} {verb} degraded: {who} in trouble, the rest serves");
                warn!("{note}");
                Notice::warn_of_node("Degraded", "Serve", note + &why)
            }
            Health::Unhealthy => {
                let note = format!("{names} {verb} unhealthy: {who} in trouble");
                error!("{note}");
                Notice::warn_of_node("Unhealthy", "Serve", note + &why)
            }
        };
        self.notices.give(notice);
    }

    /// Tells whom a warning of the plan is about.
    pub(super) fn warn(&self, warning: &Warning) {
        let note = warning.to_string();
        self.notices.give(match warning {
            Warning::FrontendClash { loser, .. } => {
                let service = loser.service.clone();
                Notice::warn_of_service(service, "FrontendClash", "Plan", note)
            }
            Warning::DuplicatePort { service, .. } => {
                Notice::warn_of_service(service.clone(), "DuplicatePort", "Plan", note)
            }
            Warning::NoRangeOfFamily { service, .. } => {
                Notice::warn_of_service(service.clone(), "NoRangeOfFamily", "Plan", note)
            }
            Warning::NoPrimaryAddress { .. } => {
                Notice::warn_of_node("NoPrimaryAddress", "Plan", note)
            }
            Warning::PodsOverlapServices { .. } | Warning::PodsOverlapNode { .. } => {
                Notice::warn_of_node("ClusterCIDROverlap", "Plan", note)
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::Receiver;

    use super::*;
    use crate::{
        engine::BackendStatus,
        model::{ObjectName, Protocol},
        notice::Subject,
    };

    fn judge() -> (Judge, Receiver<Notice>) {
        let (notices, given) = Notices::new();
        (Judge::new(Duration::from_secs(60), notices), given)
    }

    /// A status in which nftables, which carries everything, has been in trouble for so long.
    fn troubled(seconds: Option<u64>) -> Status {
        let problem = seconds.map(|_| "Table ip shunt is gone.".to_owned());
        let nftables = BackendStatus {
            fault_since: seconds.map(|ago| Instant::now() - Duration::from_secs(ago)),
            problems: problem.into_iter().collect(),
            ..BackendStatus::default()
        };
        let mut status = Status::default();
        status.backends.insert("nftables".to_owned(), nftables);
        status
    }

    #[test]
    fn each_change_of_health_is_told_once_for_both_families() {
        let (mut judge, mut given) = judge();
        let mut check = |seconds, expected: Option<(&str, &str)>| {
            judge.judge(&troubled(seconds));
            let notice = given.try_recv().ok();
            let found = notice.as_ref().map(|notice| (notice.reason, notice.note.as_str()));
            assert_eq!(found, expected, "{seconds:?}");
            assert!(given.try_recv().is_err(), "{seconds:?}: more than one");
        };
        check(None, None);
        let note = "IPv4 and IPv6 are degraded: nftables in trouble, the rest serves (Table ip \
                    shunt is gone.)";
        check(Some(0), Some(("Degraded", note)));
        check(Some(59), None);
        let note = "IPv4 and IPv6 are unhealthy: nftables in trouble (Table ip shunt is gone.)";
        check(Some(61), Some(("Unhealthy", note)));
        check(None, Some(("Recovered", "IPv4 and IPv6 are healthy again")));
        check(None, None);
    }

    #[test]
    fn a_warning_is_told_of_the_object_that_it_is_about() {
        let (judge, mut given) = judge();
        let service = ObjectName::new("shop", "web");
        let duplicate = Warning::DuplicatePort {
            service: service.clone(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        judge.warn(&duplicate);
        let notice = given.try_recv().expect("a notice");
        assert_eq!((notice.about, notice.reason), (Subject::Service(service), "DuplicatePort"));
        assert_eq!(notice.note, duplicate.to_string());
        judge.warn(&Warning::NoPrimaryAddress { node: "node-1".into() });
        let notice = given.try_recv().expect("a notice");
        assert_eq!((notice.about, notice.reason), (Subject::Node, "NoPrimaryAddress"));
        assert!(notice.is_warning);
    }
}
