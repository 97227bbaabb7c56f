//! `shunt get rules`: what the packet path does with a packet, in words.

use std::{fmt::Write as _, net::SocketAddr};

use anyhow::{Context as _, Result};
use serde::Serialize;
use shunt_core::{
    backend::{Answer, InspectedFrontend, InspectedService, Inspection},
    plan::FrontendKind,
};

use super::backends;
use crate::{
    args::{Format, Place},
    output::{print, print_json},
};

/// Reads the tables and explains them.
pub(super) async fn run(place: &Place, format: Format) -> Result<()> {
    let mut backends = backends(place)?.into_iter();
    let (_, backend) = backends
        .find(|(name, _)| *name == "nftables")
        .context("the packet path is not part of this build")?;
    let inspection = backend.inspect().await.context("cannot read the tables for packets")?;
    match format {
        Format::Json => print_json(&rules(&inspection)),
        Format::Table => print(&text(&inspection)),
    }
}

/// What becomes of the first packet of a connection.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    service: String,
    packet: String,
    outcome: String,
    endpoints: Vec<SocketAddr>,
}

fn rules(inspection: &Inspection) -> Vec<Rule> {
    let services = inspection.services.iter();
    services
        .flat_map(|service| service.frontends.iter().map(move |frontend| rule(service, frontend)))
        .collect()
}

fn rule(service: &InspectedService, inspected: &InspectedFrontend) -> Rule {
    let frontend = &inspected.frontend;
    let (protocol, port) = (service.key.protocol, frontend.port);
    let packet = match frontend.kind.address() {
        Some(address) => format!("{protocol} to {}", SocketAddr::new(address, port.get())),
        None => format!("{protocol} to port {port} of an {} node address", service.key.family),
    };
    let (outcome, endpoints) = match &inspected.answer {
        Answer::Endpoints(endpoints) => (chosen(service, endpoints.len()), endpoints.clone()),
        Answer::Refused => ("is rejected: the Service has no endpoint".to_owned(), Vec::new()),
        Answer::Left => {
            ("is dropped: policy Local, and no endpoint on this node".to_owned(), Vec::new())
        }
    };
    let kind = match frontend.kind {
        FrontendKind::ClusterIp(_) => "ClusterIP",
        FrontendKind::ExternalIp(_) => "externalIP",
        FrontendKind::LoadBalancerIp(_) => "load-balancer IP",
        FrontendKind::NodePort => "NodePort",
    };
    Rule {
        service: service.key.to_string(),
        packet: format!("{packet} ({kind})"),
        outcome,
        endpoints,
    }
}

fn chosen(service: &InspectedService, count: usize) -> String {
    let mut text = match count {
        1 => "goes to the one endpoint".to_owned(),
        count => format!("goes to one of {count} endpoints at random, each as likely"),
    };
    if let Some(seconds) = service.affinity_seconds {
        // A String takes whatever is written to it.
        let _ = write!(text, "; the client then stays with it until it is silent for {seconds} s");
    }
    text
}

/// What holds for every packet, in the order in which it meets the hooks.
const ALWAYS: &str = "\
What the tables `ip shunt` and `ip6 shunt` do with the first packet of a connection; all that
follow it take the same way. `nft list table ip shunt` shows the same in nftables' terms.

prerouting and output (nat, priority dstnat): what is below is looked up by address, protocol and
  port, and the endpoint becomes the destination. External traffic of policy Cluster is marked, and
  so is what dials a ClusterIP and is no local pod, where pods are recognised.
postrouting (nat, priority srcnat): what is marked, and what a pod sends to itself through a
  Service, gets this node's address as its source.
input, forward and output (filter): what was not translated and is meant for a Service without an
  endpoint, or for an unknown port of a ClusterIP, is rejected; an address of a ServiceCIDR that no
  Service has is dropped.
";

fn text(inspection: &Inspection) -> String {
    let rules = rules(inspection);
    if rules.is_empty() {
        return "nothing in the tables for packets\n".to_owned();
    }
    let mut text = ALWAYS.to_owned();
    let mut service = "";
    for rule in &rules {
        if rule.service != service {
            service = &rule.service;
            let _ = write!(text, "\n{service}\n");
        }
        let _ = writeln!(text, "  {} {}", rule.packet, rule.outcome);
        for endpoint in &rule.endpoints {
            let _ = writeln!(text, "    {endpoint}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use shunt_core::model::{Family, ObjectName, Protocol};
    use shunt_core::plan::{Frontend, ServicePortKey};

    use super::*;

    #[test]
    fn every_frontend_is_a_sentence() {
        let mut web = InspectedService::new(ServicePortKey {
            service: ObjectName::new("shop", "web"),
            port: "http".into(),
            protocol: Protocol::Tcp,
            family: Family::V4,
        });
        web.affinity_seconds = Some(600);
        let inspected = |kind, port: u16, answer| InspectedFrontend {
            frontend: Frontend::new(kind, port.try_into().unwrap()),
            answer,
        };
        let endpoints = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| text.parse().unwrap());
        web.frontends = vec![
            inspected(
                FrontendKind::ClusterIp([10, 96, 0, 1].into()),
                80,
                Answer::Endpoints(endpoints.into()),
            ),
            inspected(FrontendKind::NodePort, 30_080, Answer::Refused),
        ];
        let mut inspection = Inspection::default();
        assert_eq!(text(&inspection), "nothing in the tables for packets\n");
        inspection.services = vec![web];
        let told = text(&inspection);
        let expected = "
shop/web:http TCP IPv4
  TCP to 10.96.0.1:80 (ClusterIP) goes to one of 2 endpoints at random, each as likely; the client \
then stays with it until it is silent for 600 s
    10.0.0.1:80
    10.0.0.2:80
  TCP to port 30080 of an IPv4 node address (NodePort) is rejected: the Service has no endpoint
";
        assert_eq!(told.strip_prefix(ALWAYS), Some(expected));
    }
}
