//! `discovery.k8s.io/v1` EndpointSlice.

use std::sync::Arc;

use serde::Deserialize;
use shunt_core::{
    model::{Conditions, EndpointSlice, Family, SliceEndpoint, SlicePort},
    source::{Object, ObjectId},
};

use super::{
    address::parse_address,
    error::{Fault, FieldError, ObjectWarning},
    meta::{Meta, nullable},
    name::{PortName, Subdomain},
    parse::Parsed,
    port::{OptionalPort, Protocol},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct WireSlice {
    metadata: Meta,
    address_type: AddressType,
    #[serde(default, deserialize_with = "nullable")]
    endpoints: Vec<WireEndpoint>,
    /// Always printed, if only as `null`: a slice without it was cut off.
    #[serde(deserialize_with = "nullable")]
    ports: Vec<WirePort>,
}

impl WireSlice {
    pub(super) fn into_parsed(self) -> Result<Parsed, FieldError> {
        let name = self.metadata.object_name();
        let id = ObjectId::EndpointSlice(name.clone());
        if self.metadata.labels.headless.is_some() {
            return Ok(Parsed::Ignored { id, why: "it belongs to a headless Service" });
        }
        let family = match self.address_type {
            AddressType::V4 => Family::V4,
            AddressType::V6 => Family::V6,
            AddressType::Fqdn => {
                return Ok(Parsed::Ignored { id, why: "its endpoints are host names" });
            }
        };
        let mut slice = EndpointSlice::new(name, self.metadata.labels.service_name, family);
        slice.triggered = self.metadata.annotations.triggered;
        let mut warnings = Vec::new();
        slice.endpoints.reserve_exact(self.endpoints.len());
        for (index, endpoint) in self.endpoints.into_iter().enumerate() {
            match endpoint.into_model(index, family)? {
                Ok(endpoint) => slice.endpoints.push(endpoint),
                Err(FieldError { path, fault }) => {
                    warnings.push(ObjectWarning { object: id.clone(), path, fault });
                }
            }
        }
        // Collecting in place would keep the room of the larger wire type.
        slice.ports.reserve_exact(self.ports.len());
        slice.ports.extend(self.ports.into_iter().filter_map(WirePort::into_model));
        Ok(Parsed::Object { object: Object::from(slice), warnings })
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum AddressType {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
    #[serde(rename = "FQDN")]
    Fqdn,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEndpoint {
    /// Text until the address type is known: it may stand behind the endpoints.
    #[serde(default, deserialize_with = "nullable")]
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    conditions: WireConditions,
    #[serde(default)]
    node_name: Option<Subdomain>,
    #[serde(default)]
    zone: Option<Arc<str>>,
    #[serde(default, deserialize_with = "nullable")]
    hints: Hints,
}

impl WireEndpoint {
    /// The outer error is one of the whole slice, the inner one of this endpoint alone.
    fn into_model(
        self,
        index: usize,
        family: Family,
    ) -> Result<Result<SliceEndpoint, FieldError>, FieldError> {
        let Some(text) = self.addresses.first() else {
            let path = format!("endpoints[{index}].addresses");
            return Ok(Err(FieldError::new(path, Fault::NoAddress)));
        };
        let path = || format!("endpoints[{index}].addresses[0]");
        let address = parse_address(text).map_err(|fault| FieldError::new(path(), fault))?;
        if Family::of(address) != family {
            return Ok(Err(FieldError::new(path(), Fault::WrongFamily { address, family })));
        }
        let mut endpoint = SliceEndpoint::new(address);
        endpoint.conditions = self.conditions.into();
        endpoint.node_name = self.node_name.map(|name| name.0);
        endpoint.zone = self.zone;
        let names = |hints: Vec<Hint>| hints.into_iter().map(|hint| hint.name).collect();
        endpoint.hint(names(self.hints.for_nodes), names(self.hints.for_zones));
        Ok(Ok(endpoint))
    }
}

#[derive(Debug, Default, Deserialize)]
struct WireConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl From<WireConditions> for Conditions {
    fn from(wire: WireConditions) -> Self {
        Self {
            ready: wire.ready.unwrap_or(true),
            serving: wire.serving.unwrap_or(true),
            terminating: wire.terminating.unwrap_or(false),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    #[serde(default, deserialize_with = "nullable")]
    for_nodes: Vec<Hint>,
    #[serde(default, deserialize_with = "nullable")]
    for_zones: Vec<Hint>,
}

#[derive(Debug, Deserialize)]
struct Hint {
    name: Arc<str>,
}

#[derive(Debug, Deserialize)]
struct WirePort {
    #[serde(default)]
    name: Option<PortName>,
    #[serde(default, deserialize_with = "nullable")]
    protocol: Protocol,
    #[serde(default, deserialize_with = "nullable")]
    port: OptionalPort,
}

impl WirePort {
    /// A port without a name or a number joins no ServicePort.
    fn into_model(self) -> Option<SlicePort> {
        let port = self.port.0?;
        Some(SlicePort { name: self.name?.0, protocol: self.protocol.into(), port })
    }
}
