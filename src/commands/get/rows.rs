//! From what each dataplane has to rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::Serialize;
use shunt_core::{
    backend::{Answer, InspectedFrontend, InspectedService, Inspection},
    plan::{Frontend, FrontendKind, ServicePortKey},
};

/// One frontend of a Service.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceRow {
    #[serde(flatten)]
    port: ServicePortName,
    /// `ClusterIP`, `ExternalIP`, `LoadBalancerIP` or `NodePort`.
    kind: &'static str,
    /// What applications dial; `*:port` for a NodePort.
    address: String,
    /// `endpoints`, `refused` or `left`.
    answer: &'static str,
    /// How many endpoints share the connections.
    endpoints: usize,
    /// Seconds for which a client stays with an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity_seconds: Option<u32>,
    /// The dataplanes that do just this, in the order in which a connection meets them.
    dataplanes: Vec<&'static str>,
}

impl ServiceRow {
    pub(super) const HEADER: [&str; 9] =
        ["NAMESPACE", "NAME", "PORT", "PROTOCOL", "KIND", "ADDRESS", "ENDPOINTS", "AFFINITY", "BY"];

    /// Whether it says the same of the frontend, whoever does it.
    fn does_as(&self, other: &Self) -> bool {
        (self.answer, self.endpoints, self.affinity_seconds)
            == (other.answer, other.endpoints, other.affinity_seconds)
    }

    pub(super) fn cells(&self) -> [String; 9] {
        let [namespace, name, port, protocol] = self.port.cells();
        let endpoints = match self.answer {
            "endpoints" => self.endpoints.to_string(),
            other => other.to_owned(),
        };
        let affinity = self.affinity_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s}s"));
        let kind = self.kind.to_owned();
        let by = self.dataplanes.join(",");
        [namespace, name, port, protocol, kind, self.address.clone(), endpoints, affinity, by]
    }
}

/// One endpoint of a Service.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointRow {
    #[serde(flatten)]
    port: ServicePortName,
    /// Where connections go.
    endpoint: SocketAddr,
    /// The kinds of frontend through which it is reached.
    through: BTreeSet<&'static str>,
    /// The dataplanes that send connections there, in the order in which a connection meets them.
    dataplanes: Vec<&'static str>,
}

impl EndpointRow {
    pub(super) const HEADER: [&str; 7] =
        ["NAMESPACE", "NAME", "PORT", "PROTOCOL", "ENDPOINT", "THROUGH", "BY"];

    pub(super) fn cells(&self) -> [String; 7] {
        let [namespace, name, port, protocol] = self.port.cells();
        let through = self.through.iter().copied().collect::<Vec<_>>().join(",");
        let by = self.dataplanes.join(",");
        [namespace, name, port, protocol, self.endpoint.to_string(), through, by]
    }
}

/// What both kinds of row begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServicePortName {
    namespace: String,
    name: String,
    /// The port's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    port: String,
    protocol: String,
    family: String,
}

impl ServicePortName {
    fn new(service: &InspectedService) -> Self {
        Self {
            namespace: service.key.service.namespace.to_string(),
            name: service.key.service.name.to_string(),
            port: service.key.port.to_string(),
            protocol: service.key.protocol.to_string(),
            family: service.key.family.to_string(),
        }
    }

    /// The family has no column: addresses show it.
    fn cells(&self) -> [String; 4] {
        let port = if self.port.is_empty() { "-" } else { &self.port };
        [self.namespace.clone(), self.name.clone(), port.to_owned(), self.protocol.clone()]
    }
}

/// One row for each frontend, or one for each answer where dataplanes differ in it.
pub(super) fn services(inspections: &[(&'static str, Inspection)]) -> Vec<ServiceRow> {
    let mut merged: BTreeMap<(&ServicePortKey, FrontendKind, u16), Vec<ServiceRow>> =
        BTreeMap::new();
    for (dataplane, inspection) in inspections {
        for service in &inspection.services {
            for inspected in &service.frontends {
                let Frontend { kind, port, .. } = inspected.frontend;
                let rows = merged.entry((&service.key, kind, port.get())).or_default();
                let row = service_row(service, inspected);
                match rows.iter_mut().find(|known| known.does_as(&row)) {
                    Some(known) => known.dataplanes.push(dataplane),
                    None => rows.push(ServiceRow { dataplanes: vec![dataplane], ..row }),
                }
            }
        }
    }
    merged.into_values().flatten().collect()
}

fn service_row(service: &InspectedService, inspected: &InspectedFrontend) -> ServiceRow {
    let (answer, endpoints) = match &inspected.answer {
        Answer::Endpoints(endpoints) => ("endpoints", endpoints.len()),
        Answer::Refused => ("refused", 0),
        Answer::Left => ("left", 0),
    };
    let Frontend { kind, port, .. } = &inspected.frontend;
    let address = match kind.address() {
        Some(address) => SocketAddr::new(address, port.get()).to_string(),
        None => format!("*:{port}"),
    };
    ServiceRow {
        port: ServicePortName::new(service),
        kind: kind_name(*kind),
        address,
        answer,
        endpoints,
        affinity_seconds: service.affinity_seconds,
        dataplanes: Vec::new(),
    }
}

/// One row for each endpoint of the Services called `wanted` (`name` or `namespace/name`), or of
/// all; or one for each set of frontends where dataplanes differ in it.
pub(super) fn endpoints(
    inspections: &[(&'static str, Inspection)],
    wanted: Option<&str>,
) -> Vec<EndpointRow> {
    let mut merged: BTreeMap<(&ServicePortKey, SocketAddr), Vec<EndpointRow>> = BTreeMap::new();
    for (dataplane, inspection) in inspections {
        let services = inspection.services.iter().filter(|service| {
            let name = &service.key.service;
            wanted.is_none_or(|wanted| wanted == &*name.name || wanted == name.to_string())
        });
        for (service, row) in services.flat_map(endpoints_of) {
            let rows = merged.entry((&service.key, row.endpoint)).or_default();
            match rows.iter_mut().find(|known| known.through == row.through) {
                Some(known) => known.dataplanes.push(dataplane),
                None => rows.push(EndpointRow { dataplanes: vec![dataplane], ..row }),
            }
        }
    }
    merged.into_values().flatten().collect()
}

fn endpoints_of(service: &InspectedService) -> Vec<(&InspectedService, EndpointRow)> {
    let mut through: BTreeMap<SocketAddr, BTreeSet<&'static str>> = BTreeMap::new();
    for inspected in &service.frontends {
        let Answer::Endpoints(endpoints) = &inspected.answer else { continue };
        for endpoint in endpoints {
            through.entry(*endpoint).or_default().insert(kind_name(inspected.frontend.kind));
        }
    }
    let port = ServicePortName::new(service);
    let row = |(endpoint, through)| EndpointRow {
        port: port.clone(),
        endpoint,
        through,
        dataplanes: Vec::new(),
    };
    through.into_iter().map(|found| (service, row(found))).collect()
}

const fn kind_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp(_) => "ClusterIP",
        FrontendKind::ExternalIp(_) => "ExternalIP",
        FrontendKind::LoadBalancerIp(_) => "LoadBalancerIP",
        FrontendKind::NodePort => "NodePort",
    }
}
