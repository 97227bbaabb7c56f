//! `v1` Node.

use std::sync::Arc;

use serde::Deserialize;
use shunt_core::model::{Node, NodeAddress, NodeAddressKind};

use super::{
    address::{Range, parse_address},
    error::FieldError,
    meta::{Meta, nullable},
};

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct WireNode {
    metadata: Meta,
    #[serde(default, deserialize_with = "nullable")]
    spec: Spec,
    /// Always printed: a Node without it was cut off.
    #[serde(deserialize_with = "nullable")]
    status: Status,
}

impl WireNode {
    pub(super) fn into_model(self) -> Result<Node, FieldError> {
        let mut node = Node::new(self.metadata.name.0);
        for (index, entry) in self.status.addresses.into_iter().enumerate() {
            let kind = match entry.kind.as_str() {
                "InternalIP" => NodeAddressKind::Internal,
                "ExternalIP" => NodeAddressKind::External,
                // Host names and DNS names.
                _ => continue,
            };
            let address = parse_address(&entry.address).map_err(|fault| {
                FieldError::new(format!("status.addresses[{index}].address"), fault)
            })?;
            node.addresses.push(NodeAddress { kind, address });
        }
        node.pod_cidrs = if self.spec.pod_cidrs.is_empty() {
            self.spec.pod_cidr.into_iter().map(|range| range.0).collect()
        } else {
            self.spec.pod_cidrs.iter().map(|range| range.0).collect()
        };
        node.zone = self.metadata.labels.zone.filter(|zone| !zone.is_empty());
        node.taints = self.spec.taints.into_iter().map(|taint| taint.key).collect();
        node.deleting = self.metadata.deletion_timestamp.is_some();
        Ok(node)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
struct Spec {
    #[serde(rename = "podCIDR", default)]
    pod_cidr: Option<Range>,
    #[serde(rename = "podCIDRs", default, deserialize_with = "nullable")]
    pod_cidrs: Vec<Range>,
    #[serde(default, deserialize_with = "nullable")]
    taints: Vec<Taint>,
}

#[derive(Debug, Deserialize)]
struct Taint {
    key: Arc<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
struct Status {
    #[serde(default, deserialize_with = "nullable")]
    addresses: Vec<WireAddress>,
}

#[derive(Debug, Deserialize)]
struct WireAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}
