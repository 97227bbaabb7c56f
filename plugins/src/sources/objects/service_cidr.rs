//! `networking.k8s.io/v1` ServiceCIDR.

use serde::Deserialize;
use shunt_core::model::ServiceCidr;

use super::{
    address::Range,
    meta::{Meta, nullable},
};

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct WireServiceCidr {
    metadata: Meta,
    spec: Spec,
}

impl WireServiceCidr {
    pub(super) fn into_model(self) -> ServiceCidr {
        let cidrs = self.spec.cidrs.iter().map(|range| range.0).collect();
        ServiceCidr { name: self.metadata.name.0, cidrs }
    }
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Spec {
    #[serde(default, deserialize_with = "nullable")]
    cidrs: Vec<Range>,
}
