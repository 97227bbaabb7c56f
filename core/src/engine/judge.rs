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
            Warning::NoPrimaryAddress { .. } => {
                Notice::warn_of_node("NoPrimaryAddress", "Plan", note)
            }
            Warning::PodsOverlapServices { .. } | Warning::PodsOverlapNode { .. } => {
                Notice::warn_of_node("ClusterCIDROverlap", "Plan", note)
            }
        });
    }
}
