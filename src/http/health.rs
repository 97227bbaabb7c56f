//! Whether this node is healthy, as kube-proxy says it. Pure.
//!
//! The body of a healthy node is kube-proxy's, byte for byte but for the times; what is ours,
//! `degraded` and `stale`, is there only where there is something to say.

use std::{collections::BTreeMap, time::Duration};

use hyper::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use shunt_core::{
    engine::{Health, Status},
    model::Family,
};
use tokio::time::Instant;

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) time: Timestamp,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), time: Timestamp::now() }
    }

    /// What the clock on the wall showed then.
    fn time_of(self, then: Instant) -> Timestamp {
        let ago = self.instant.saturating_duration_since(then);
        self.time.checked_sub(ago).unwrap_or(self.time)
    }
}

/// Which of the two questions is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// `/healthz`, of load balancers: whether this node should get new connections.
    Healthz,
    /// `/livez`, of the kubelet: whether this agent should go on.
    Livez,
}

/// What has not been heard of, by what it is, and since when.
pub(super) type Unheard = Vec<(String, Instant)>;

/// An answer and its code.
pub(super) fn report(
    probe: Probe,
    status: &Status,
    unheard: &Unheard,
    now: Now,
    patience: Duration,
) -> (StatusCode, Report) {
    let families = Family::ALL.map(|family| {
        let is_healthy = status.health(family, now.instant, patience) != Health::Unhealthy;
        (family, is_healthy, status.current_at(family))
    });
    let healthy = families.iter().all(|(_, is_healthy, _)| *is_healthy);
    let eligible = status.ineligible.is_none();
    let is_ok = healthy && (probe == Probe::Livez || eligible);
    let last = families.iter().filter_map(|(_, _, at)| *at).max();
    let updated = |at: Instant| now.time_of(at).to_string();
    let report = Report {
        // A healthy proxy is up to date now, whenever there was something to do last.
        last_updated: if is_ok {
            now.time.to_string()
        } else {
            last.map_or_else(|| NEVER.to_owned(), updated)
        },
        current_time: now.time.to_string(),
        node_eligible: (probe == Probe::Healthz).then_some(eligible),
        healthy,
        // As kube-proxy, a family is named once it was brought into the kernel.
        status: families
            .into_iter()
            .filter_map(|(family, healthy, at)| {
                Some((family.to_string(), OfFamily { last_updated: updated(at?), healthy }))
            })
            .collect(),
        degraded: degraded(status),
        stale: if probe == Probe::Livez { stale(unheard, now) } else { Vec::new() },
    };
    let code = if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, report)
}

/// The zero of Go's times.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The body of an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<String, OfFamily>,
    /// What is wrong with backends, while others serve or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    degraded: Vec<String>,
    /// What the source has not seen for longer than it should.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stale: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfFamily {
    last_updated: String,
    healthy: bool,
}

fn degraded(status: &Status) -> Vec<String> {
    let backends = status.backends.iter();
    let problems = backends.flat_map(|(name, backend)| {
        backend.problems.iter().map(move |problem| format!("{name}: {problem}"))
    });
    problems.collect()
}

fn stale(unheard: &Unheard, now: Now) -> Vec<String> {
    let line = |(what, since): &(String, Instant)| {
        format!("{what} not seen since {}", now.time_of(*since))
    };
    unheard.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shunt_core::engine::{BackendStatus, Ineligible, Role};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn now() -> Now {
        let time = "2026-11-25T02:44:06.5Z".parse().unwrap();
        Now { instant: Instant::now() + Duration::from_secs(10_000), time }
    }

    /// Two backends that have everything since ten seconds, of which one carries it all.
    fn status(now: Now) -> Status {
        let mut status = Status::default();
        status.synced = true;
        for name in ["connect", "nftables"] {
            let mut backend = BackendStatus::default();
            backend.started = true;
            if name == "connect" {
                backend.role = Role::default();
                backend.role.carries_all.clear();
            }
            for family in Family::ALL {
                let at = now.instant - Duration::from_secs(10);
                backend.families[family].current_at = Some(at);
            }
            status.backends.insert(name.to_owned(), backend);
        }
        status
    }

    fn check(change: impl Fn(&mut Status, Instant), probe: Probe, code: u16, expected: &Value) {
        let now = now();
        let mut status = status(now);
        change(&mut status, now.instant);
        let (found, report) = report(probe, &status, &Vec::new(), now, PATIENCE);
        assert_eq!(found.as_u16(), code, "{report:?}");
        assert_eq!(serde_json::to_value(&report).unwrap(), *expected);
    }

    const UPDATED: &str = "2026-11-25T02:43:56.5Z";
    const NOW: &str = "2026-11-25T02:44:06.5Z";

    fn families(v4: bool, v6: bool) -> Value {
        json!({
            "IPv4": { "lastUpdated": UPDATED, "healthy": v4 },
            "IPv6": { "lastUpdated": UPDATED, "healthy": v6 },
        })
    }

    #[test]
    fn a_healthy_node_says_what_kube_proxy_says_byte_for_byte() {
        let now = now();
        let (_, report) = report(Probe::Healthz, &status(now), &Vec::new(), now, PATIENCE);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            format!(
                "{{\"lastUpdated\":\"{NOW}\",\"currentTime\":\"{NOW}\",\"nodeEligible\":true,\
                 \"healthy\":true,\"status\":{{\
                 \"IPv4\":{{\"lastUpdated\":\"{UPDATED}\",\"healthy\":true}},\
                 \"IPv6\":{{\"lastUpdated\":\"{UPDATED}\",\"healthy\":true}}}}}}"
            )
        );
    }

    #[test]
    fn a_node_that_goes_is_alive_and_not_healthy() {
        let goes = |status: &mut Status, _| status.ineligible = Some(Ineligible::ScaledDown);
        let mut expected = json!({
            "lastUpdated": UPDATED, "currentTime": NOW, "nodeEligible": false,
            "healthy": true, "status": families(true, true),
        });
        check(goes, Probe::Healthz, 503, &expected);
        expected.as_object_mut().unwrap().remove("nodeEligible");
        expected["lastUpdated"] = json!(NOW);
        check(goes, Probe::Livez, 200, &expected);
    }

    #[test]
    fn a_change_that_waits_too_long_makes_its_family_unhealthy() {
        let wait = |status: &mut Status, now: Instant, backend: &str, seconds| {
            let backend = status.backends.get_mut(backend).unwrap();
            let since = now - Duration::from_secs(seconds);
            backend.families[Family::V6].waiting_since = Some(since);
        };
        let healthy = |updated: &str| {
            json!({
                "lastUpdated": updated, "currentTime": NOW, "healthy": true,
                "status": families(true, true),
            })
        };
        check(|status, now| wait(status, now, "nftables", 59), Probe::Livez, 200, &healthy(NOW));
        // Connect alone carries nothing that nftables does not.
        check(|status, now| wait(status, now, "connect", 600), Probe::Livez, 200, &healthy(NOW));
        let expected = json!({
            "lastUpdated": UPDATED, "currentTime": NOW, "healthy": false,
            "status": families(true, false),
        });
        check(|status, now| wait(status, now, "nftables", 60), Probe::Livez, 503, &expected);
    }

    #[test]
    fn a_backend_that_is_lost_degrades_and_is_named() {
        let lose = |status: &mut Status, now: Instant| {
            let connect = status.backends.get_mut("connect").unwrap();
            connect.fault_since = Some(now - Duration::from_secs(6000));
            connect.problems = vec!["Hook connect4 is not attached.".to_owned()];
        };
        let expected = json!({
            "lastUpdated": NOW, "currentTime": NOW, "nodeEligible": true, "healthy": true,
            "status": families(true, true),
            "degraded": ["connect: Hook connect4 is not attached."],
        });
        check(lose, Probe::Healthz, 200, &expected);
    }

    #[test]
    fn who_starts_is_healthy_and_has_nothing_to_show() {
        let start = |status: &mut Status, _: Instant| *status = Status::default();
        let expected = json!({
            "lastUpdated": NOW, "currentTime": NOW, "nodeEligible": true, "healthy": true,
        });
        check(start, Probe::Healthz, 200, &expected);
        let fail = |status: &mut Status, now: Instant| {
            for backend in status.backends.values_mut() {
                backend.families = Default::default();
                backend.fault_since = Some(now - PATIENCE);
            }
        };
        let expected = json!({ "lastUpdated": NEVER, "currentTime": NOW, "healthy": false });
        check(fail, Probe::Livez, 503, &expected);
    }

    #[test]
    fn what_the_source_does_not_see_is_named_by_livez_alone() {
        let now = now();
        let unheard = vec![("services".to_owned(), now.instant - Duration::from_secs(300))];
        let (code, live) = report(Probe::Livez, &status(now), &unheard, now, PATIENCE);
        assert_eq!(code, StatusCode::OK);
        assert_eq!(live.stale, ["services not seen since 2026-11-25T02:39:06.5Z"]);
        let (_, health) = report(Probe::Healthz, &status(now), &unheard, now, PATIENCE);
        assert!(health.stale.is_empty());
    }
}
