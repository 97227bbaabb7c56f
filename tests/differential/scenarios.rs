//! Clusters written by hand, by name: what random ones have found, and every difference on purpose.

use serde_json::{Value, json};
use shunt_core::model::Family;
use shunt_harness::{apiserver::objects, world::World};

use crate::{
    cluster::{Drafted, NAMESPACE},
    generate::{PORT, node_of},
    settings::{Modes, Settings, UNUSUAL, USUAL},
};

/// The Service that the answers of a scenario are about.
pub(crate) const NAME: &str = "scenario";

/// A cluster of one Service, and maybe one beside it, and what comes of what is sent to it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The difference on purpose that it shows; without one, both sides answer alike.
    pub(crate) difference: Option<&'static str>,
    pub(crate) settings: &'static Settings,
    /// What is beside the ports in the `spec` of the Service.
    spec: Value,
    vips: &'static [&'static str],
    endpoints: Vec<Endpoint>,
    /// The endpoints of another Service, of UDP.
    beside: Vec<Endpoint>,
    pub(crate) answers: Vec<Answer>,
}

/// A ready endpoint.
struct Endpoint {
    pod: &'static str,
    /// Whether it says its node.
    has_node: bool,
    family: Family,
}

/// What comes of one thing that is sent.
pub(crate) struct Answer {
    pub(crate) client: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) family: Family,
    pub(crate) theirs: &'static str,
    /// The agent's, by the packet path alone and by both dataplanes.
    ours: [&'static str; 2],
}

impl Answer {
    /// The agent's answer in a mode.
    pub(crate) fn ours(&self, modes: Modes) -> &'static str {
        self.ours[usize::from(modes.ours == "auto")]
    }
}

const fn endpoint(pod: &'static str) -> Endpoint {
    Endpoint { pod, has_node: true, family: Family::V4 }
}

const fn same(client: &'static str, kind: &'static str, answer: &'static str) -> Answer {
    differ(client, kind, answer, [answer; 2])
}

const fn differ(
    client: &'static str,
    kind: &'static str,
    theirs: &'static str,
    ours: [&'static str; 2],
) -> Answer {
    Answer { client, kind, family: Family::V4, theirs, ours }
}

const fn v6(answer: Answer) -> Answer {
    Answer { family: Family::V6, ..answer }
}

impl Scenario {
    pub(crate) fn all() -> Vec<Self> {
        let all = [Self::found(), Self::at_connect(), Self::of_iptables(), Self::elsewhere()];
        all.into_iter().flatten().collect()
    }

    /// What random clusters have found beside kube-proxy with nftables.
    fn found() -> Vec<Self> {
        vec![
            Self {
                name: "ranges-of-the-other-family",
                difference: None,
                settings: &USUAL,
                spec: json!({ "type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack",
                              "loadBalancerSourceRanges": ["198.51.100.0/24"] }),
                vips: &["203.0.113.100", "2001:db8::100"],
                endpoints: vec![
                    endpoint("echo-1"),
                    Endpoint { family: Family::V6, ..endpoint("echo-1") },
                ],
                beside: vec![],
                answers: vec![
                    same("outside", "VIP", "echo-1 sees node-a"),
                    same("echo-2", "VIP", "silence"),
                    v6(same("outside", "VIP", "echo-1 sees node-a")),
                    v6(same("echo-2", "VIP", "echo-1 sees node-a")),
                ],
            },
            Self {
                name: "hairpin-of-unknown-node",
                difference: Some("hairpin-of-unknown-node"),
                settings: &USUAL,
                spec: json!({}),
                vips: &[],
                endpoints: vec![Endpoint { has_node: false, ..endpoint("client") }],
                beside: vec![endpoint("client")],
                answers: vec![
                    differ(
                        "client",
                        "clusterIP",
                        "silence",
                        ["client sees node-a", "client sees client"],
                    ),
                    same("outside", "clusterIP", "client sees node-a"),
                ],
            },
        ]
    }

    /// What is another thing at `connect()`.
    fn at_connect() -> Vec<Self> {
        vec![
            Self {
                name: "source-at-connect",
                difference: Some("source-at-connect"),
                settings: &USUAL,
                spec: json!({ "externalIPs": ["203.0.113.10"] }),
                vips: &[],
                endpoints: vec![endpoint("echo-1")],
                beside: vec![],
                answers: vec![
                    differ(
                        "client",
                        "externalIP",
                        "echo-1 sees node-a",
                        ["echo-1 sees node-a", "echo-1 sees client"],
                    ),
                    same("client", "clusterIP", "echo-1 sees client"),
                    same("outside", "externalIP", "echo-1 sees node-a"),
                ],
            },
            Self {
                name: "external-local-at-connect",
                difference: Some("external-local-at-connect"),
                settings: &UNUSUAL,
                spec: json!({ "externalIPs": ["203.0.113.10"], "externalTrafficPolicy": "Local" }),
                vips: &[],
                endpoints: vec![endpoint("echo-2")],
                beside: vec![],
                answers: vec![
                    differ("client", "externalIP", "silence", ["silence", "echo-2 sees client"]),
                    same("outside", "externalIP", "silence"),
                    same(World::OWN_NODE, "externalIP", "echo-2 sees node-a"),
                ],
            },
        ]
    }

    /// What kube-proxy with iptables leaves to others, or does to all.
    fn of_iptables() -> Vec<Self> {
        vec![
            Self {
                name: "hairpin-with-iptables",
                difference: Some("hairpin-with-iptables"),
                settings: &USUAL,
                // Affinity and ranges leave all of it to the packet path.
                spec: json!({ "type": "LoadBalancer", "sessionAffinity": "ClientIP",
                              "loadBalancerSourceRanges": ["198.51.100.0/24"] }),
                vips: &["203.0.113.100"],
                endpoints: vec![Endpoint { has_node: false, ..endpoint("client") }],
                beside: vec![],
                answers: vec![
                    differ("client", "clusterIP", "client sees node-a", ["silence"; 2]),
                    same("outside", "clusterIP", "client sees node-a"),
                ],
            },
            Self {
                name: "unallocated-with-iptables",
                difference: Some("unallocated-with-iptables"),
                settings: &USUAL,
                spec: json!({}),
                vips: &[],
                endpoints: vec![endpoint("echo-1")],
                beside: vec![],
                answers: vec![
                    differ("client", "unallocated", "ECONNREFUSED", ["silence"; 2]),
                    differ("outside", "unallocated", "ECONNREFUSED", ["silence"; 2]),
                ],
            },
            Self {
                name: "unknown-port-with-iptables",
                difference: Some("unknown-port-with-iptables"),
                settings: &USUAL,
                spec: ports("SCTP"),
                vips: &[],
                endpoints: vec![endpoint("echo-1")],
                beside: vec![],
                answers: vec![
                    differ("client", "unknown port", "silence", ["ECONNREFUSED"; 2]),
                    same("client", "clusterIP", "echo-1 sees client"),
                ],
            },
            Self {
                name: "ranges-without-endpoint-with-iptables",
                difference: Some("ranges-without-endpoint-with-iptables"),
                settings: &USUAL,
                spec: json!({ "type": "LoadBalancer",
                              "loadBalancerSourceRanges": ["10.77.16.1/32"] }),
                vips: &["203.0.113.100"],
                endpoints: vec![],
                beside: vec![],
                answers: vec![
                    differ("outside", "VIP", "ECONNREFUSED", ["silence"; 2]),
                    same("client", "VIP", "ECONNREFUSED"),
                ],
            },
        ]
    }

    /// What kube-proxy with iptables does at addresses that answer no NodePort.
    fn elsewhere() -> Vec<Self> {
        vec![
            Self {
                name: "external-local-with-iptables",
                difference: Some("external-local-with-iptables"),
                settings: &USUAL,
                spec: json!({ "type": "NodePort", "externalTrafficPolicy": "Local" }),
                vips: &[],
                endpoints: vec![endpoint("echo-2")],
                beside: vec![],
                answers: vec![
                    differ("client", "second nodePort", "silence", ["ECONNREFUSED"; 2]),
                    same("outside", "nodePort", "silence"),
                ],
            },
            Self {
                name: "no-endpoint-with-iptables",
                difference: Some("no-endpoint-with-iptables"),
                settings: &USUAL,
                spec: json!({ "type": "NodePort", "ports": ports("SCTP")["ports"] }),
                vips: &[],
                endpoints: vec![],
                beside: vec![],
                answers: vec![
                    differ("client", "second nodePort", "ECONNREFUSED", ["silence"; 2]),
                    same("client", "nodePort", "ECONNREFUSED"),
                ],
            },
        ]
    }

    pub(crate) fn drafts(&self, world: &World) -> Vec<Drafted> {
        let mut drafts = vec![drafted(NAME, &self.spec, &self.endpoints, world)];
        drafts[0].vips = self.vips.iter().map(|&vip| vip.to_owned()).collect();
        if !self.beside.is_empty() {
            drafts.push(drafted("beside", &ports("UDP"), &self.beside, world));
        }
        drafts
    }
}

/// A `spec` with a port of another protocol.
fn ports(protocol: &str) -> Value {
    json!({ "ports": [{ "name": "http", "protocol": protocol, "port": 80 }] })
}

fn drafted(name: &str, spec: &Value, endpoints: &[Endpoint], world: &World) -> Drafted {
    let mut service = objects::service(NAMESPACE, name);
    for (field, value) in spec.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    let mut slices = Vec::new();
    for family in Family::ALL {
        let endpoints: Vec<_> = endpoints
            .iter()
            .filter(|endpoint| endpoint.family == family)
            .map(|endpoint| endpoint.object(world))
            .collect();
        if endpoints.is_empty() {
            continue;
        }
        let end = family.to_string().to_lowercase();
        let mut slice = objects::slice(NAMESPACE, name, &end, &[]);
        slice["addressType"] = family.to_string().into();
        let protocol = &service["spec"]["ports"][0]["protocol"];
        slice["ports"] = json!([{ "name": "http", "protocol": protocol, "port": PORT }]);
        slice["endpoints"] = endpoints.into();
        slices.push(slice);
    }
    Drafted { service, vips: Vec::new(), slices, sticky: false }
}

impl Endpoint {
    fn object(&self, world: &World) -> Value {
        let address = world.pod(self.pod).unwrap().addresses().of(self.family);
        let mut object = json!({
            "addresses": [address],
            "conditions": { "ready": true, "serving": true, "terminating": false },
        });
        if self.has_node {
            object["nodeName"] = node_of(self.pod).into();
        }
        object
    }
}
