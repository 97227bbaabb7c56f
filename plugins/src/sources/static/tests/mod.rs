//! Manifests, claims and followed folders.

mod claims;
mod following;
mod reading;
mod truncation;

use std::error::Error;

/// Two Services and a slice, as `kubectl get -o yaml` prints them.
const LIST: &str = include_str!("../../../../testdata/list.yaml");
/// The same as `kubectl get -o json` prints them.
const LIST_JSON: &str = include_str!("../../../../testdata/list.json");
/// A Service, its slice, a Node and a ServiceCIDR, written by hand.
const DOCUMENTS: &str = include_str!("../../../../testdata/documents.yaml");

/// A Service with a ClusterIP, as a document.
fn service(name: &str, cluster_ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\n\
         spec: {{ clusterIP: {cluster_ip}, ports: [{{ port: 80 }}] }}\n"
    )
}

/// An error with its causes, as `{:#}` of anyhow prints it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
