use std::num::NonZeroU16;

use shunt_core::{
    backend::{Answer, InspectedFrontend, InspectedService, Inspection},
    model::{Family, ObjectName, Protocol},
    plan::{Frontend, FrontendKind, ServicePortKey},
};

use super::rows::{EndpointRow, ServiceRow, endpoints, services};
use crate::output::table;

fn inspection() -> Inspection {
    let mut web = InspectedService::new(ServicePortKey {
        service: ObjectName::new("shop", "web"),
        port: "http".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    });
    let both = ["10.244.1.2:8080", "10.244.2.3:8080"].map(|text| text.parse().unwrap());
    web.frontends = vec![
        frontend(
            FrontendKind::ClusterIp([10, 96, 0, 10].into()),
            80,
            Answer::Endpoints(both.into()),
        ),
        frontend(FrontendKind::NodePort, 30080, Answer::Endpoints(both[..1].into())),
    ];
    web.affinity_seconds = Some(600);
    let mut dark = InspectedService::new(ServicePortKey {
        service: ObjectName::new("shop", "dark"),
        port: "".into(),
        protocol: Protocol::Udp,
        family: Family::V6,
    });
    let address = "fd00::11".parse().unwrap();
    dark.frontends = vec![
        frontend(FrontendKind::ClusterIp(address), 53, Answer::Refused),
        frontend(FrontendKind::LoadBalancerIp(address), 54, Answer::Left),
    ];
    let mut sigtran = InspectedService::new(ServicePortKey {
        service: ObjectName::new("shop", "sigtran"),
        port: "".into(),
        protocol: Protocol::Sctp,
        family: Family::V4,
    });
    sigtran.left = Some("its protocol is not taken at connect()");
    let mut inspection = Inspection::default();
    inspection.services = vec![dark, web, sigtran];
    inspection
}

fn frontend(kind: FrontendKind, port: u16, answer: Answer) -> InspectedFrontend {
    InspectedFrontend { frontend: Frontend::new(kind, NonZeroU16::new(port).unwrap()), answer }
}

#[test]
fn services_are_a_table_like_kubectls() {
    let cells: Vec<_> = services(&inspection()).iter().map(ServiceRow::cells).collect();
    assert_eq!(
        table(ServiceRow::HEADER, &cells),
        "\
NAMESPACE   NAME      PORT   PROTOCOL   KIND             ADDRESS         ENDPOINTS   AFFINITY   REASON
shop        dark      -      UDP        ClusterIP        [fd00::11]:53   refused     -          -
shop        dark      -      UDP        LoadBalancerIP   [fd00::11]:54   left        -          -
shop        web       http   TCP        ClusterIP        10.96.0.10:80   2           600s       -
shop        web       http   TCP        NodePort         *:30080         1           600s       -
shop        sigtran   -      SCTP       -                -               left        -          its protocol is not taken at connect()
"
    );
}

#[test]
fn endpoints_say_through_what_they_are_reached() {
    let check = |wanted: Option<&str>, expected: usize| {
        assert_eq!(endpoints(&inspection(), wanted).len(), expected, "{wanted:?}");
    };
    check(None, 2);
    check(Some("web"), 2);
    check(Some("shop/web"), 2);
    check(Some("other/web"), 0);
    check(Some("dark"), 0);
    let cells: Vec<_> = endpoints(&inspection(), None).iter().map(EndpointRow::cells).collect();
    assert_eq!(
        table(EndpointRow::HEADER, &cells),
        "\
NAMESPACE   NAME   PORT   PROTOCOL   ENDPOINT          THROUGH
shop        web    http   TCP        10.244.1.2:8080   ClusterIP,NodePort
shop        web    http   TCP        10.244.2.3:8080   ClusterIP
"
    );
}

#[test]
fn json_names_what_the_table_shows() {
    let json = serde_json::to_value(services(&inspection())).unwrap();
    assert_eq!(
        json[2],
        serde_json::json!({
            "namespace": "shop", "name": "web", "port": "http", "protocol": "TCP",
            "family": "IPv4", "kind": "ClusterIP", "address": "10.96.0.10:80",
            "answer": "endpoints", "endpoints": 2, "affinitySeconds": 600,
        })
    );
}
