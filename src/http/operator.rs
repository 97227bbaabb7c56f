//! What operators ask the agent as a whole, on two ports: whether it is healthy, and everything
//! else.

use std::{sync::Arc, time::Duration};

use hyper::StatusCode;
use metrics::counter;
use serde_json::Value;
use shunt_core::{engine::Status, source::Freshness};
use tokio::sync::watch;

use super::{
    connection::Answer,
    health::{Now, Probe, Unheard, report},
    metrics::Metrics,
    page::{self, Page},
};

/// What is known of the agent's health.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) status: watch::Receiver<Status>,
    /// How long a change may wait.
    pub(crate) patience: Duration,
    pub(crate) sources: Vec<Arc<dyn Freshness>>,
    /// How long a source may not see what it watches before that is named.
    pub(crate) stale_after: Duration,
}

impl Health {
    /// What is answered on port 10256.
    pub(crate) fn answers(self) -> impl Answer {
        move |path: &str| match path {
            "/healthz" => self.answer(Probe::Healthz),
            "/livez" => self.answer(Probe::Livez),
            _ => page::not_found(),
        }
    }

    fn answer(&self, probe: Probe) -> Page {
        let now = Now::read();
        let (code, report) =
            report(probe, &self.status.borrow(), &self.unheard(now), now, self.patience);
        let name = match probe {
            Probe::Healthz => "kubeproxy_proxy_healthz_total",
            Probe::Livez => "kubeproxy_proxy_livez_total",
        };
        counter!(name, "code" => code.as_str().to_owned()).increment(1);
        page::json(code, &report)
    }

    fn unheard(&self, now: Now) -> Unheard {
        let unseen = self.sources.iter().flat_map(|source| source.unseen());
        let is_long = |since| now.instant.saturating_duration_since(since) >= self.stale_after;
        unseen.filter(|(_, since)| is_long(*since)).collect()
    }
}

/// What is answered on port 10249.
pub(crate) fn answers(metrics: Metrics, configuration: Value) -> impl Answer {
    let configuration = Arc::new(configuration);
    move |path: &str| match path {
        "/metrics" => page::metrics(metrics.render()),
        "/healthz" => page::text(StatusCode::OK, "ok"),
        // What kube-proxy calls a packet path of nftables, which there always is or may be.
        "/proxyMode" => page::text(StatusCode::OK, "nftables"),
        "/configz" => page::json(StatusCode::OK, &*configuration),
        _ => page::not_found(),
    }
}
