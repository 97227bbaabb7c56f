//! The objects of a cluster, and everything that can be sent to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use serde_json::{Value, json};
use shunt_core::model::Protocol;
use shunt_harness::{
    apiserver::{Client, objects},
    world::World,
};

use crate::{
    generate::PORT,
    look::{CLIENTS, Cell},
};

pub(crate) const NAMESPACE: &str = "default";

/// A Service that was not made yet, and its slices.
pub(crate) struct Drafted {
    pub(crate) service: Value,
    /// Load-balancer VIPs.
    pub(crate) vips: Vec<String>,
    pub(crate) slices: Vec<Value>,
    /// Whether it gets an affinity after a first look.
    pub(crate) sticky: bool,
}

/// Objects that were not made yet.
pub(crate) struct Draft {
    services: Vec<Drafted>,
    /// The primary addresses of the node.
    node: [IpAddr; 2],
    /// Others of its addresses.
    second: [IpAddr; 2],
}

/// A cluster as the API server has it.
pub(crate) struct Cluster {
    objects: Vec<Value>,
    /// Who reaches it knows that everything before it is programmed.
    pub(crate) marker: SocketAddr,
    pub(crate) cells: Vec<Cell>,
    /// The Services that get an affinity after a first look.
    sticky: Vec<Value>,
}

impl Draft {
    pub(crate) fn new(services: Vec<Drafted>, world: &World) -> Self {
        let node = [world.host().address4().into(), world.host().address6().into()];
        let second = world.second_host_addresses();
        Self { services, node, second: [second.v4.into(), second.v6.into()] }
    }

    /// Makes everything, the marker last.
    pub(crate) fn create(self, client: &Client) -> Result<Cluster> {
        let mut cluster = Cluster {
            objects: Vec::new(),
            marker: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            cells: Vec::new(),
            sticky: Vec::new(),
        };
        // An address of the ServiceCIDRs that is most likely no Service's.
        let nobodys = SocketAddr::new(Ipv4Addr::new(10, 96, 255, 254).into(), 80);
        let nothing = ("", Protocol::Tcp, &Value::Null);
        cluster.cells.extend(from_everywhere("unallocated", nobodys, nothing));
        for drafted in &self.services {
            let mut made = client.create(&drafted.service)?;
            if !drafted.vips.is_empty() {
                let ingress: Vec<_> = drafted.vips.iter().map(|ip| json!({ "ip": ip })).collect();
                let mut status = drafted.service.clone();
                status["status"] = json!({ "loadBalancer": { "ingress": ingress } });
                if let Some(object) = status.as_object_mut() {
                    object.remove("spec");
                }
                made = client.apply_status(&status)?;
            }
            for slice in &drafted.slices {
                client.create(slice)?;
                cluster.objects.push(slice.clone());
            }
            cluster.cells.extend(self.cells(&made, &drafted.slices));
            cluster.objects.push(drafted.service.clone());
            if drafted.sticky {
                cluster.sticky.push(drafted.service.clone());
            }
        }
        cluster.mark(client, "marker")?;
        Ok(cluster)
    }

    /// Everything that can be sent to a Service, from everywhere.
    fn cells(&self, service: &Value, slices: &[Value]) -> Vec<Cell> {
        let spec = &service["spec"];
        let list = |value: &Value| -> Vec<IpAddr> {
            let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.filter_map(|text| text.parse().ok()).collect()
        };
        let vips: Vec<IpAddr> = service["status"]["loadBalancer"]["ingress"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|ingress| ingress["ip"].as_str()?.parse().ok())
            .collect();
        let mut cells = Vec::new();
        for port in spec["ports"].as_array().into_iter().flatten() {
            let number = |field: &str| port[field].as_u64().and_then(|n| u16::try_from(n).ok());
            let protocol = match port["protocol"].as_str() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let service_port = number("port").unwrap_or_default();
            let mut frontends = Vec::new();
            let all = [
                ("clusterIP", list(&spec["clusterIPs"])),
                ("externalIP", list(&spec["externalIPs"])),
                ("VIP", vips.clone()),
            ];
            for (kind, addresses) in all {
                frontends
                    .extend(addresses.iter().map(|ip| (kind, SocketAddr::new(*ip, service_port))));
            }
            if let Some(node_port) = number("nodePort") {
                let at = |ip: &IpAddr| SocketAddr::new(*ip, node_port);
                frontends.extend(self.node.iter().map(|ip| ("nodePort", at(ip))));
                frontends.extend(self.second.iter().map(|ip| ("second nodePort", at(ip))));
            }
            if let Some(ip) = list(&spec["clusterIPs"]).first() {
                // A port that the Service does not have.
                frontends.push(("unknown port", SocketAddr::new(*ip, 7)));
            }
            let name = port["name"].as_str().unwrap_or_default();
            let described = described(service, slices);
            for (kind, to) in frontends {
                cells.extend(from_everywhere(kind, to, (name, protocol, &described)));
            }
        }
        cells
    }
}

impl Cluster {
    /// Gives those Services an affinity that are to have one.
    pub(crate) fn make_sticky(&mut self, client: &Client) -> Result<()> {
        for service in &self.sticky {
            client.patch(service, &json!({ "spec": { "sessionAffinity": "ClientIP" } }))?;
        }
        self.mark(client, "second-marker")
    }

    /// What is sent to those Services, at ports that they have.
    pub(crate) fn sticky_cells(&self) -> Vec<Cell> {
        let is_sticky = |cell: &&Cell| {
            let name = &cell.service["name"];
            cell.kind != "unknown port"
                && self.sticky.iter().any(|service| service["metadata"]["name"] == *name)
        };
        self.cells.iter().filter(is_sticky).cloned().collect()
    }

    /// Makes the Service after which everything is programmed.
    fn mark(&mut self, client: &Client, name: &str) -> Result<()> {
        let marker = objects::service(NAMESPACE, name);
        let made = client.create(&marker)?;
        let address = made["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
        self.marker = SocketAddr::new(address, 80);
        let pod = SocketAddr::new(Ipv4Addr::new(10, 77, 16, 3).into(), PORT);
        let slice = objects::slice(NAMESPACE, name, "abcde", &[pod]);
        client.create(&slice)?;
        self.objects.extend([marker, slice]);
        Ok(())
    }

    pub(crate) fn delete(self, client: &Client) -> Result<()> {
        client.delete_all(&self.objects).map(drop)
    }
}

fn from_everywhere(
    kind: &'static str,
    to: SocketAddr,
    (port, protocol, service): (&str, Protocol, &Value),
) -> [Cell; CLIENTS.len()] {
    CLIENTS.map(|client| {
        let (port, service) = (port.to_owned(), service.clone());
        Cell { client, kind, to, protocol, port, service }
    })
}

/// What matters of a Service, for those who read about a difference.
fn described(service: &Value, slices: &[Value]) -> Value {
    let mut spec = service["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        for field in ["selector", "ipFamilies", "allocateLoadBalancerNodePorts"] {
            spec.remove(field);
        }
    }
    let slices: Vec<_> = slices
        .iter()
        .map(|slice| json!({ "endpoints": slice["endpoints"], "ports": slice["ports"] }))
        .collect();
    json!({ "name": service["metadata"]["name"], "spec": spec, "slices": slices })
}
