//! Random clusters.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use serde_json::{Value, json};
use shunt_core::model::Family;
use shunt_harness::{
    apiserver::{Client, objects},
    probe::Transport,
    world::World,
};

use crate::{
    dice::Dice,
    look::{CLIENTS, Cell},
};

const NAMESPACE: &str = "default";

/// Services of a cluster.
const SERVICES: usize = 8;

/// The pods that can be endpoints, with their nodes and zones; one of them is a client too.
pub(crate) const PODS: [(&str, &str, &str); 4] = [
    ("client", World::OWN_NODE, "zone-a"),
    ("echo-1", World::OWN_NODE, "zone-a"),
    ("echo-2", World::OTHER_NODE, "zone-b"),
    ("echo-3", World::OTHER_NODE, "zone-b"),
];

/// The port of every endpoint.
pub(crate) const PORT: u16 = 8080;

/// Objects that were not made yet.
pub(crate) struct Draft {
    services: Vec<Drafted>,
    /// The primary addresses of the node, which answer NodePorts.
    node: [IpAddr; 2],
    /// Others of its addresses, which do not.
    second: [IpAddr; 2],
}

struct Drafted {
    service: Value,
    /// Load-balancer VIPs.
    vips: Vec<String>,
    slices: Vec<Value>,
}

/// A cluster as the API server has it.
pub(crate) struct Cluster {
    objects: Vec<Value>,
    /// Who reaches it knows that everything before it is programmed.
    pub(crate) marker: SocketAddr,
    pub(crate) cells: Vec<Cell>,
}

impl Draft {
    pub(crate) fn new(dice: &mut Dice, world: &World) -> Self {
        let services = (0..SERVICES).map(|number| drafted(dice, world, number)).collect();
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
        };
        // An address of the ServiceCIDRs that is most likely no Service's.
        let nobodys = SocketAddr::new(Ipv4Addr::new(10, 96, 255, 254).into(), 80);
        cluster.cells.extend(from_everywhere("unallocated", nobodys, Transport::Tcp, &Value::Null));
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
        }
        let marker = objects::service(NAMESPACE, "marker");
        let made = client.create(&marker)?;
        let address = made["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
        cluster.marker = SocketAddr::new(address, 80);
        let pod = SocketAddr::new(Ipv4Addr::new(10, 77, 16, 3).into(), PORT);
        let slice = objects::slice(NAMESPACE, "marker", "abcde", &[pod]);
        client.create(&slice)?;
        cluster.objects.extend([marker, slice]);
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
            let transport = if port["protocol"] == "UDP" { Transport::Udp } else { Transport::Tcp };
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
                frontends.extend(self.second.iter().map(|ip| ("nodePort elsewhere", at(ip))));
            }
            if let Some(ip) = list(&spec["clusterIPs"]).first() {
                // A port that the Service does not have.
                frontends.push(("unknown port", SocketAddr::new(*ip, 7)));
            }
            for (kind, to) in frontends {
                cells.extend(from_everywhere(kind, to, transport, &described(service, slices)));
            }
        }
        cells
    }
}

impl Cluster {
    pub(crate) fn delete(self, client: &Client) -> Result<()> {
        client.delete_all(&self.objects).map(drop)
    }
}

fn from_everywhere(
    kind: &'static str,
    to: SocketAddr,
    transport: Transport,
    service: &Value,
) -> [Cell; CLIENTS.len()] {
    CLIENTS.map(|client| Cell { client, kind, to, transport, service: service.clone() })
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

fn drafted(dice: &mut Dice, world: &World, number: usize) -> Drafted {
    let name = format!("service-{number}");
    let mut service = objects::service(NAMESPACE, &name);
    let spec = &mut service["spec"];
    let dual = dice.percent(40);
    if dual {
        spec["ipFamilyPolicy"] = "RequireDualStack".into();
    }
    let kind = *dice.one(&["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer"]);
    spec["type"] = kind.into();
    let has_external_ips = dice.percent(30);
    if has_external_ips {
        let v6 = dual.then(|| format!("2001:db8::{}", 10 + number));
        let ips: Vec<_> = v6.into_iter().chain([format!("203.0.113.{}", 10 + number)]).collect();
        spec["externalIPs"] = json!(ips);
    }
    let vips = if kind == "LoadBalancer" && dice.percent(80) {
        let v6 = dual.then(|| format!("2001:db8::{}", 100 + number));
        v6.into_iter().chain([format!("203.0.113.{}", 100 + number)]).collect()
    } else {
        Vec::new()
    };
    if kind == "LoadBalancer" && dice.percent(40) {
        let ranges = ["10.77.16.1/32", "198.51.100.0/24", "192.0.2.0/24", "fd77::/64", "0.0.0.0/0"];
        spec["loadBalancerSourceRanges"] = json!([dice.one(&ranges), dice.one(&ranges[..2])]);
    }
    if dice.percent(25) {
        spec["internalTrafficPolicy"] = "Local".into();
    }
    if (kind != "ClusterIP" || has_external_ips) && dice.percent(45) {
        spec["externalTrafficPolicy"] = "Local".into();
    }
    spec["ports"] = json!([{ "name": "a", "protocol": dice.one(&["TCP", "UDP"]), "port": 80 }]);
    if dice.percent(30) {
        let port = json!({ "name": "b", "protocol": dice.one(&["TCP", "UDP"]), "port": 81 });
        spec["ports"].as_array_mut().unwrap().push(port);
    }
    let families = if dual { &Family::ALL[..] } else { &Family::ALL[..1] };
    let mut slices = Vec::new();
    for &family in families {
        let parts = 1 + usize::from(dice.percent(30));
        // Each pod is in one slice, or in none: what an address is that two slices tell different
        // things of, kube-proxy leaves to chance.
        let mut chosen = vec![Vec::new(); parts];
        for pod in PODS {
            if dice.percent(55) {
                chosen[dice.below(parts)].push(pod);
            }
        }
        for (part, pods) in chosen.iter().enumerate() {
            let end = format!("{family}-{part}").to_lowercase();
            slices.push(slice(dice, world, (&service, &end), pods, family));
        }
    }
    Drafted { service, vips, slices }
}

fn slice(
    dice: &mut Dice,
    world: &World,
    (service, end): (&Value, &str),
    pods: &[(&str, &str, &str)],
    family: Family,
) -> Value {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let mut slice = objects::slice(NAMESPACE, name, end, &[]);
    slice["addressType"] = family.to_string().into();
    let hints = dice.below(5);
    let mut endpoints = Vec::new();
    for &(pod, node, zone) in pods {
        let mut endpoint = json!({
            "addresses": [world.pod(pod).unwrap().addresses().of(family)],
            "conditions": conditions(dice),
            "zone": zone,
        });
        if dice.percent(95) {
            endpoint["nodeName"] = node.into();
        }
        match hints {
            0 => endpoint["hints"] = json!({ "forZones": [{ "name": zone }] }),
            1 => {
                endpoint["hints"] = json!({ "forNodes": [{ "name": node }],
                                             "forZones": [{ "name": "zone-a" }] })
            }
            // Not every endpoint has one, which switches all of them off.
            2 if dice.percent(80) => {
                endpoint["hints"] = json!({ "forZones": [{ "name": zone }] });
            }
            _ => {}
        }
        endpoints.push(endpoint);
    }
    slice["endpoints"] = endpoints.into();
    let mut ports = Vec::new();
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        if dice.percent(7) {
            continue;
        }
        // A port of another protocol is not the Service's.
        let protocol = if dice.percent(4) { json!("SCTP") } else { port["protocol"].clone() };
        ports.push(json!({ "name": port["name"], "protocol": protocol, "port": PORT }));
    }
    slice["ports"] = ports.into();
    slice
}

fn conditions(dice: &mut Dice) -> Value {
    match dice.below(10) {
        0..=5 => json!({ "ready": true, "serving": true, "terminating": false }),
        6 => json!({ "ready": false, "serving": false, "terminating": false }),
        7 | 8 => json!({ "ready": false, "serving": true, "terminating": true }),
        _ => json!({ "ready": false, "serving": false, "terminating": true }),
    }
}
