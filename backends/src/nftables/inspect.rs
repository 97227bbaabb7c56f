//! What is being served, read from the kernel: without the agent, and for it as for anybody else.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
};

use shunt_core::{
    backend::{Answer, BackendError, InspectedFrontend, InspectedService, Inspection, TableUse},
    model::{Family, ObjectName, Protocol},
    plan::{Frontend, FrontendKind, ServicePortKey},
};

use super::{
    data::{Cursor, Data},
    dump::Found,
    netlink::{Kernel as _, Netlink},
    options::NftablesOptions,
    render,
    ruleset::{Chain, Place, SetName},
};

/// Reads the tables of both families.
///
/// # Errors
///
/// Fails if a table is there and cannot be read.
pub(super) async fn inspect(options: &NftablesOptions) -> Result<Inspection, BackendError> {
    let kernel = Netlink::open(options)
        .map_err(|cause| BackendError::new("open a netlink socket for nftables", cause))?;
    let mut inspection = Inspection::default();
    let mut services = BTreeMap::new();
    let (mut elements, mut remembered) = (0, 0);
    for family in Family::ALL {
        let found = kernel.read(family).await.map_err(|cause| {
            let table = options.table_name(family);
            BackendError::new(format!("read table {table}"), cause)
        })?;
        let Some(found) = found else { continue };
        elements += found.elements.len() as u64;
        remembered += found.remembered;
        read(family, &found, &mut services);
    }
    inspection.services = services.into_values().collect();
    for service in &mut inspection.services {
        service.frontends.sort_by(|a, b| a.frontend.cmp(&b.frontend));
    }
    inspection.tables = vec![
        TableUse { name: "elements", used: elements, size: u64::from(u32::MAX) },
        TableUse { name: "affinity", used: remembered, size: 2 * u64::from(options.affinity_size) },
    ];
    Ok(inspection)
}

/// The UDP frontends that an earlier run left.
///
/// # Errors
///
/// As [`inspect`].
pub(super) async fn udp_frontends(
    options: &NftablesOptions,
) -> Result<Vec<(ServicePortKey, Vec<Frontend>)>, BackendError> {
    let services = inspect(options).await?.services.into_iter();
    let udp = services.filter(|service| service.key.protocol == Protocol::Udp);
    let frontends = |service: InspectedService| {
        service.frontends.into_iter().map(|inspected| inspected.frontend).collect()
    };
    Ok(udp.map(|service| (service.key.clone(), frontends(service))).collect())
}

/// Reads who is served in one family.
fn read(family: Family, found: &Found, services: &mut BTreeMap<ServicePortKey, InspectedService>) {
    for ((set, key), element) in &found.elements {
        let (place, is_served) = match set {
            SetName::Frontends(place) => (*place, true),
            // Where both say something, the frontend is served to some and not to others.
            SetName::Unserved(place) => {
                let also = found.data(SetName::Frontends(*place), key.clone());
                if also.is_some() {
                    continue;
                }
                (*place, false)
            }
            _ => continue,
        };
        let comment = element.comment.as_deref().unwrap_or_default();
        let name = parse_key(render::owner(comment));
        let (Some(name), Some(address)) = (name, address(family, place, key)) else { continue };
        let answer = if is_served {
            served(family, found, (place, key), &element.data)
        } else {
            refused(&element.data)
        };
        let kind = kind(found, comment, address.0);
        let service = services.entry(name.clone());
        let service = service.or_insert_with(|| InspectedService::new(name));
        service.affinity_seconds = service.affinity_seconds.or_else(|| {
            let chains = [&element.data].into_iter().chain(lists(found, (place, key)));
            chains.filter_map(affinity).next()
        });
        let frontend = Frontend::new(kind, address.1);
        service.frontends.push(InspectedFrontend { frontend, answer });
    }
}

/// The second verdicts of a frontend.
fn lists<'a>(found: &'a Found, (place, key): (Place, &[u8])) -> impl Iterator<Item = &'a Data> {
    let both = [SetName::ClusterLists(place), SetName::LocalLists(place)];
    both.into_iter()
        .filter_map(move |set| found.data(set, key.into()))
        .collect::<Vec<_>>()
        .into_iter()
}

const fn affinity(data: &Data) -> Option<u32> {
    match data {
        Data::Goto(Chain::Sticky { seconds, .. }) => Some(*seconds),
        _ => None,
    }
}

/// The endpoints of a frontend. External frontends of policy Local are shown as the world outside
/// sees them: with the endpoints of this node.
fn served(family: Family, found: &Found, at: (Place, &[u8]), data: &Data) -> Answer {
    let (place, key) = at;
    let chain = match data {
        Data::Goto(Chain::External(_) | Chain::Ranged) => {
            found.data(SetName::ClusterLists(place), key.into())
        }
        Data::Goto(Chain::ExternalLocal(_) | Chain::RangedLocal) => {
            found.data(SetName::LocalLists(place), key.into())
        }
        other => Some(other),
    };
    let endpoints: Vec<SocketAddr> = match chain {
        Some(Data::Goto(Chain::Choose { list, .. })) => found.list(family, at, *list),
        Some(Data::Goto(Chain::Sticky { list, .. })) => {
            let id = found.id(place, key).unwrap_or(0);
            found.sticky_list(family, id, *list)
        }
        _ => return Answer::Left,
    };
    Answer::Endpoints(endpoints)
}

const fn refused(data: &Data) -> Answer {
    match data {
        Data::Goto(_) => Answer::Refused,
        _ => Answer::Left,
    }
}

/// The address and the port of a frontend.
fn address(family: Family, place: Place, key: &[u8]) -> Option<(Option<IpAddr>, NonZeroU16)> {
    let mut key = Cursor(key);
    let address = match place {
        Place::Address => Some(key.address(family)?),
        Place::NodePort => None,
    };
    let _protocol = key.protocol()?;
    Some((address, NonZeroU16::new(key.port()?)?))
}

/// The kind of a frontend: packets meet the same rules at externalIPs and load-balancer VIPs
/// without source ranges, so the comment tells them apart.
fn kind(found: &Found, comment: &str, address: Option<IpAddr>) -> FrontendKind {
    let Some(address) = address else { return FrontendKind::NodePort };
    let active = super::data::Fields::new().address(address).done();
    if found.data(SetName::ClusterIps, active).is_some() {
        return FrontendKind::ClusterIp(address);
    }
    match render::is_balancer(comment) {
        true => FrontendKind::LoadBalancerIp(address),
        false => FrontendKind::ExternalIp(address),
    }
}

/// The name of a ServicePort as elements carry it in their comments: what [`ServicePortKey`]
/// displays.
pub(super) fn parse_key(comment: &str) -> Option<ServicePortKey> {
    let mut words = comment.split(' ');
    let (name, protocol, family) = (words.next()?, words.next()?, words.next()?);
    let (service, port) = name.split_once(':').unwrap_or((name, ""));
    let (namespace, name) = service.split_once('/')?;
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = protocols.into_iter().find(|known| known.to_string() == protocol)?;
    let family = Family::ALL.into_iter().find(|known| known.to_string() == family)?;
    let key = ServicePortKey {
        service: ObjectName::new(namespace, name),
        port: port.into(),
        protocol,
        family,
    };
    (key.to_string() == comment).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for text in ["default/web:http TCP IPv4", "kube-system/dns UDP IPv6", "a/b:c SCTP IPv4"] {
            assert_eq!(parse_key(text).unwrap().to_string(), text);
        }
        for text in ["", "x", "a/b TCP", "a/b TCP IPv5", "a/b TCP IPv4 more", "ab TCP IPv4"] {
            assert_eq!(parse_key(text), None, "{text}");
        }
    }
}
