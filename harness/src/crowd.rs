//! Many Services, to see what their number costs.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    sync::Arc,
};

use shunt_core::{
    model::{
        EndpointSlice, Family, ObjectName, PortSpec, Protocol, Service, SliceEndpoint, SlicePort,
    },
    source::{Object, Update},
};

/// The port of every Service.
pub const PORT: NonZeroU16 = NonZeroU16::MIN.saturating_add(79);

/// Upserts for `count` Services of one TCP port and two endpoints each, every one with a slice of
/// its own, as a source would send them. At most 65,000 Services: they fill a /16.
#[must_use]
pub fn updates(count: u16) -> Vec<Update> {
    let services = (0..count).map(|number| Update::Upsert(Object::from(service(number))));
    let slices = (0..count).map(|number| Update::Upsert(Object::from(slice(number))));
    services.chain(slices).collect()
}

/// The name of Service `number`.
#[must_use]
pub fn name(number: u16) -> ObjectName {
    ObjectName::new("crowd", &format!("service-{number}"))
}

/// Service `number`, a ClusterIP Service.
#[must_use]
pub fn service(number: u16) -> Service {
    let mut service = Service::new(name(number));
    service.cluster_ips = vec![IpAddr::V4(cluster_ip(number))].into();
    let port =
        PortSpec { name: "http".into(), protocol: Protocol::Tcp, port: PORT, node_port: None };
    service.ports = vec![port].into();
    service
}

/// The clusterIP of Service `number`, counted down from the end of 10.96.0.0/16, so that tests
/// have the beginning to themselves.
#[must_use]
pub fn cluster_ip(number: u16) -> Ipv4Addr {
    let [high, low] = (u16::MAX - 1 - number).to_be_bytes();
    Ipv4Addr::new(10, 96, high, low)
}

/// The slice of Service `number`, with two endpoints that do not exist.
#[must_use]
pub fn slice(number: u16) -> EndpointSlice {
    let [high, low] = number.to_be_bytes();
    let endpoints = [128, 129].map(|net| IpAddr::V4(Ipv4Addr::new(10, net, high, low)));
    slice_of(number, &endpoints)
}

/// The slice of Service `number` with these endpoints, ready, on port 8080.
#[must_use]
pub fn slice_of(number: u16, endpoints: &[IpAddr]) -> EndpointSlice {
    let name = name(number);
    let service = Some(Arc::clone(&name.name));
    let family = endpoints.first().map_or(Family::V4, |address| Family::of(*address));
    let mut slice = EndpointSlice::new(name, service, family);
    slice.endpoints = endpoints.iter().map(|address| SliceEndpoint::new(*address)).collect();
    slice.ports =
        vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: ENDPOINT_PORT }]
            .into();
    slice
}

/// The port of every endpoint.
pub const ENDPOINT_PORT: NonZeroU16 = NonZeroU16::MIN.saturating_add(8079);
