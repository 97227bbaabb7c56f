//! `v1` Service.

use std::{collections::HashSet, sync::Arc};

use serde::Deserialize;
use shunt_core::model::{PortSpec, Service, ServiceType, TrafficPolicy};

use super::{
    address::{Address, OptionalAddress, Range},
    error::{Fault, FieldError},
    meta::{Meta, nullable},
    name::{Label, PortName},
    port::{AffinitySeconds, OptionalPort, Port, Protocol},
};

/// The default of `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct WireService {
    metadata: Meta,
    spec: Spec,
    #[serde(default, deserialize_with = "nullable")]
    status: Status,
}

impl WireService {
    pub(super) fn into_model(self) -> Result<Service, FieldError> {
        let Self { metadata, spec, status } = self;
        let name = metadata.object_name();
        Label::check(&name.name).map_err(|fault| FieldError::new("metadata.name", fault))?;
        let affinity_seconds = spec.affinity_seconds();

        let mut service = Service::new(name);
        service.created = metadata.created();
        service.service_type = spec.service_type.into();
        service.other_proxy = metadata.labels.service_proxy_name.is_some();
        service.cluster_ips = if spec.cluster_ips.is_empty() {
            spec.cluster_ip.0.into_iter().collect()
        } else {
            spec.cluster_ips.iter().filter_map(|cluster_ip| cluster_ip.0).collect()
        };
        service.external_ips = spec.external_ips.iter().map(|address| address.0).collect();
        service.load_balancer_ips = status.load_balancer.addresses();
        service.source_ranges = spec.source_ranges.iter().map(|range| range.0).collect();
        service.affinity_seconds = affinity_seconds;
        service.internal_policy = spec.internal_traffic_policy.into();
        service.external_policy = spec.external_traffic_policy.into();
        service.health_check_node_port = spec.health_check_node_port.0;
        service.ports = ports(spec.ports)?.into();

        let needs_ports =
            !service.cluster_ips.is_empty() && service.service_type != ServiceType::ExternalName;
        if needs_ports && service.ports.is_empty() {
            return Err(FieldError::new("spec.ports", Fault::Missing));
        }
        Ok(service)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Spec {
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    service_type: WireServiceType,
    #[serde(rename = "clusterIP", default, deserialize_with = "nullable")]
    cluster_ip: OptionalAddress,
    #[serde(rename = "clusterIPs", default, deserialize_with = "nullable")]
    cluster_ips: Vec<OptionalAddress>,
    #[serde(rename = "externalIPs", default, deserialize_with = "nullable")]
    external_ips: Vec<Address>,
    #[serde(rename = "loadBalancerSourceRanges", default, deserialize_with = "nullable")]
    source_ranges: Vec<Range>,
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<WirePort>,
    #[serde(default, deserialize_with = "nullable")]
    session_affinity: SessionAffinity,
    #[serde(default, deserialize_with = "nullable")]
    session_affinity_config: SessionAffinityConfig,
    #[serde(default, deserialize_with = "nullable")]
    internal_traffic_policy: WirePolicy,
    #[serde(default, deserialize_with = "nullable")]
    external_traffic_policy: WirePolicy,
    #[serde(default, deserialize_with = "nullable")]
    health_check_node_port: OptionalPort,
}

impl Spec {
    fn affinity_seconds(&self) -> Option<u32> {
        match self.session_affinity {
            SessionAffinity::None => None,
            SessionAffinity::ClientIp => {
                let configured = self.session_affinity_config.client_ip.timeout_seconds;
                Some(configured.map_or(DEFAULT_AFFINITY_SECONDS, |seconds| seconds.0))
            }
        }
    }
}

/// Ports by name and protocol, which is what tells them apart.
fn ports(wire: Vec<WirePort>) -> Result<Vec<PortSpec>, FieldError> {
    let mut seen = HashSet::with_capacity(wire.len());
    let mut ports = Vec::with_capacity(wire.len());
    for (index, port) in wire.into_iter().enumerate() {
        let port = PortSpec {
            name: port.name.0,
            protocol: port.protocol.into(),
            port: port.port.0,
            node_port: port.node_port.0,
        };
        if !seen.insert((Arc::clone(&port.name), port.protocol)) {
            let fault =
                Fault::PortTwice { name: port.name.as_ref().to_owned(), protocol: port.protocol };
            return Err(FieldError::new(format!("spec.ports[{index}].name"), fault));
        }
        ports.push(port);
    }
    Ok(ports)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePort {
    #[serde(default, deserialize_with = "nullable")]
    name: PortName,
    #[serde(default, deserialize_with = "nullable")]
    protocol: Protocol,
    port: Port,
    #[serde(default, deserialize_with = "nullable")]
    node_port: OptionalPort,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum WireServiceType {
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl From<WireServiceType> for ServiceType {
    fn from(wire: WireServiceType) -> Self {
        match wire {
            WireServiceType::ClusterIp => Self::ClusterIp,
            WireServiceType::NodePort => Self::NodePort,
            WireServiceType::LoadBalancer => Self::LoadBalancer,
            WireServiceType::ExternalName => Self::ExternalName,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum WirePolicy {
    #[default]
    Cluster,
    Local,
}

impl From<WirePolicy> for TrafficPolicy {
    fn from(wire: WirePolicy) -> Self {
        match wire {
            WirePolicy::Cluster => Self::Cluster,
            WirePolicy::Local => Self::Local,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum SessionAffinity {
    #[default]
    None,
    #[serde(rename = "ClientIP")]
    ClientIp,
}

#[derive(Debug, Default, Deserialize)]
struct SessionAffinityConfig {
    #[serde(rename = "clientIP", default, deserialize_with = "nullable")]
    client_ip: ClientIpConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIpConfig {
    #[serde(default)]
    timeout_seconds: Option<AffinitySeconds>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default, deserialize_with = "nullable")]
    load_balancer: LoadBalancerStatus,
}

#[derive(Debug, Default, Deserialize)]
struct LoadBalancerStatus {
    #[serde(default, deserialize_with = "nullable")]
    ingress: Vec<Ingress>,
}

impl LoadBalancerStatus {
    /// Addresses that packets arrive with; in mode `Proxy` they arrive with the node's.
    fn addresses(&self) -> Vec<std::net::IpAddr> {
        let vips = self.ingress.iter().filter(|ingress| matches!(ingress.ip_mode, IpMode::Vip));
        vips.filter_map(|ingress| ingress.ip.0).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    #[serde(default, deserialize_with = "nullable")]
    ip: OptionalAddress,
    #[serde(default, deserialize_with = "nullable")]
    ip_mode: IpMode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum IpMode {
    #[default]
    #[serde(rename = "VIP")]
    Vip,
    Proxy,
}
