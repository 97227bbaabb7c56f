//! The text at `/metrics`.
//!
//! What the parts of the agent measure goes through the `metrics` facade to an exporter that
//! keeps it; this file says which buckets histograms have, and has every name there from the
//! start, whether or not something happened yet: an alert on a metric that is absent never fires.

use std::time::Duration;

use anyhow::Context as _;
use metrics::{counter, describe_counter, describe_gauge, gauge, histogram};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use shunt_core::model::Family;

use super::process;

/// How often samples are put into their buckets between two scrapes, so that they do not pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Where metrics are read.
#[derive(Clone)]
pub(crate) struct Metrics(PrometheusHandle);

impl Metrics {
    /// Keeps from now on what is measured in this process.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let recorder = recorder().context("cannot set up metrics")?;
        let metrics = Self(recorder.handle());
        metrics::set_global_recorder(recorder).context("cannot keep metrics")?;
        register();
        let handle = metrics.0.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            loop {
                ticks.tick().await;
                handle.run_upkeep();
            }
        });
        Ok(metrics)
    }

    /// The text.
    pub(crate) fn render(&self) -> String {
        let mut text = self.0.render();
        process::render(&mut text);
        text
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let programming = programming_buckets();
    let builder = PrometheusBuilder::new()
        // kube-proxy's for everything that takes as long as an apply, and finer ones for ours,
        // where an apply takes some microseconds.
        .set_buckets_for_metric(prefix("kubeproxy_"), &doubling(0.001, 15))?
        .set_buckets_for_metric(prefix("shunt_"), &doubling(0.000_01, 21))?
        .set_buckets_for_metric(
            Matcher::Full("kubeproxy_network_programming_duration_seconds".to_owned()),
            &programming,
        )?;
    Ok(builder.build_recorder())
}

fn prefix(prefix: &str) -> Matcher {
    Matcher::Prefix(prefix.to_owned())
}

fn doubling(first: f64, count: i32) -> Vec<f64> {
    (0..count).map(|exponent| first * 2_f64.powi(exponent)).collect()
}

/// kube-proxy's: fine below a second, and up to five minutes.
fn programming_buckets() -> Vec<f64> {
    let steps = |first: u32, step: u32, count: u32| {
        (0..count).map(move |number| f64::from(first + number * step))
    };
    [0.25, 0.5]
        .into_iter()
        .chain(steps(1, 1, 59))
        .chain(steps(60, 5, 12))
        .chain(steps(120, 30, 7))
        .collect()
}

/// Has the names there that no part of the agent registers by itself, or not in every mode.
fn register() {
    let cleanup_failures = "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total";
    let deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total";
    describe_counter!(
        cleanup_failures,
        "Times that leftovers could not be deleted from the tables of nftables."
    );
    describe_counter!(deleted, "Stale UDP flows that were deleted.");
    for family in Family::ALL {
        let label = [("ip_family", family.to_string())];
        counter!(cleanup_failures, &label).increment(0);
        counter!(deleted, &label).increment(0);
        // A handle is enough for it to be there.
        drop(histogram!("kubeproxy_conntrack_reconciler_sync_duration_seconds", &label));
    }
    describe_counter!("kubeproxy_proxy_healthz_total", "Answers to /healthz, by code.");
    describe_counter!("kubeproxy_proxy_livez_total", "Answers to /livez, by code.");
    for code in ["200", "503"] {
        counter!("kubeproxy_proxy_healthz_total", "code" => code).increment(0);
        counter!("kubeproxy_proxy_livez_total", "code" => code).increment(0);
    }
    describe_gauge!("kubernetes_build_info", "1, with the version of this agent.");
    gauge!("kubernetes_build_info", &build_labels()).set(1.0);
}

/// The labels that every component of Kubernetes has. What means nothing for a program in Rust is
/// empty.
fn build_labels() -> Vec<(&'static str, String)> {
    // Go's names.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    vec![
        ("build_date", String::new()),
        ("compiler", "rustc".to_owned()),
        ("git_commit", String::new()),
        ("git_tree_state", String::new()),
        ("git_version", concat!("v", env!("CARGO_PKG_VERSION")).to_owned()),
        ("go_version", String::new()),
        ("major", env!("CARGO_PKG_VERSION_MAJOR").to_owned()),
        ("minor", env!("CARGO_PKG_VERSION_MINOR").to_owned()),
        ("platform", format!("{}/{architecture}", std::env::consts::OS)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_kube_proxy() {
        let programming = programming_buckets();
        assert_eq!(programming.len(), 2 + 59 + 12 + 7);
        assert!(programming.is_sorted());
        assert_eq!(programming.first_chunk(), Some(&[0.25, 0.5, 1.0, 2.0]));
        assert_eq!(
            programming.last_chunk(),
            Some(&[115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0])
        );
        let doubling = doubling(0.001, 15);
        assert_eq!((doubling.len(), doubling[0], doubling[14]), (15, 0.001, 16.384));
    }

    #[test]
    fn the_text_has_types_labels_and_buckets() {
        let recorder = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            register();
            let name = "kubeproxy_sync_proxy_rules_duration_seconds";
            histogram!(name, "ip_family" => "IPv4").record(0.003);
        });
        let text = recorder.handle().render();
        for line in [
            "# TYPE kubeproxy_proxy_healthz_total counter",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 0",
            "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.002\"} 0",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.004\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"16.384\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv6\"} 0",
            "# TYPE kubernetes_build_info gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
