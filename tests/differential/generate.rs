//! Random clusters.

use serde_json::{Value, json};
use shunt_core::model::Family;
use shunt_harness::{apiserver::objects, world::World};

use crate::{
    cluster::{Drafted, NAMESPACE},
    dice::Dice,
};

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

/// The node of a pod that can be an endpoint.
pub(crate) fn node_of(pod: &str) -> &'static str {
    PODS.iter().find(|(name, _, _)| *name == pod).unwrap().1
}

/// The Services of a cluster.
pub(crate) fn services(dice: &mut Dice, world: &World) -> Vec<Drafted> {
    (0..SERVICES).map(|number| drafted(dice, world, number)).collect()
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
        let ranges = [
            "10.77.16.1/32",
            "198.51.100.0/24",
            "10.77.0.0/30",
            "0.0.0.0/0",
            "fd77::/64",
            "2001:db8:51::/64",
        ];
        spec["loadBalancerSourceRanges"] = json!([dice.one(&ranges), dice.one(&ranges)]);
    }
    if dice.percent(25) {
        spec["internalTrafficPolicy"] = "Local".into();
    }
    if (kind != "ClusterIP" || has_external_ips) && dice.percent(45) {
        spec["externalTrafficPolicy"] = "Local".into();
    }
    spec["ports"] = json!([{ "name": "a", "protocol": protocol(dice), "port": 80 }]);
    if dice.percent(30) {
        let port = json!({ "name": "b", "protocol": protocol(dice), "port": 81 });
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
    let sticky = dice.percent(20);
    Drafted { service, vips, slices, sticky }
}

fn protocol(dice: &mut Dice) -> &'static str {
    if dice.percent(10) { "SCTP" } else { ["TCP", "UDP"][dice.below(2)] }
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
        let protocol =
            if dice.percent(4) { json!(protocol(dice)) } else { port["protocol"].clone() };
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
