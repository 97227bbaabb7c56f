//! `shunt get rules`: what the packet path does with a packet, in words.

use std::{fmt::Write as _, net::SocketAddr};

use anyhow::{Context as _, Result};
use serde::Serialize;
use shunt_backends::nftables::{self, NftablesOptions};
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
    let tables = nftables::explain(&NftablesOptions::default())
        .await
        .context("cannot read the tables for packets")?;
    let explained = Explained { tables, frontends: rules(&inspection) };
    match format {
        Format::Json => print_json(&explained),
        Format::Table => print(&explained.text()),
    }
}

/// The tables, and what that means for each frontend.
#[derive(Debug, Serialize)]
struct Explained {
    tables: Vec<String>,
    frontends: Vec<Rule>,
}

/// What becomes of the first packet of a connection to a frontend.
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

impl Explained {
    fn text(&self) -> String {
        let mut text: String = self.tables.iter().map(|line| format!("{line}\n")).collect();
        let mut service = "";
        for rule in &self.frontends {
            if rule.service != service {
                service = &rule.service;
                // A String takes whatever is written to it.
                let _ = write!(text, "\n{service}\n");
            }
            let _ = writeln!(text, "  {} {}", rule.packet, rule.outcome);
            for endpoint in &rule.endpoints {
                let _ = writeln!(text, "    {endpoint}");
            }
        }
        text
    }
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
        inspection.services = vec![web];
        let tables = vec!["Table ip shunt: 12 chains.".to_owned()];
        let told = Explained { tables, frontends: rules(&inspection) }.text();
        let expected = "
shop/web:http TCP IPv4
  TCP to 10.96.0.1:80 (ClusterIP) goes to one of 2 endpoints at random, each as likely; the client \
then stays with it until it is silent for 600 s
    10.0.0.1:80
    10.0.0.2:80
  TCP to port 30080 of an IPv4 node address (NodePort) is rejected: the Service has no endpoint
";
        assert_eq!(told.strip_prefix("Table ip shunt: 12 chains.\n"), Some(expected));
    }
}
