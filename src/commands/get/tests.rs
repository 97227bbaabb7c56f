use std::num::NonZeroU16;

use shunt_core::{
    backend::{Answer, InspectedFrontend, InspectedService, Inspection},
    model::{Family, ObjectName, Protocol},
    plan::{Frontend, FrontendKind, ServicePortKey},
};

use super::rows::{EndpointRow, ServiceRow, endpoints, services};
use crate::output::table;

/// Connect-time balancing as in [`inspection`]; the packet path serves the load-balancer IP, too,
/// that is left at connect(), and one endpoint more of the NodePort.
fn both() -> Vec<(&'static str, Inspection)> {
    let mut packets = inspection();
    let [dark, web] = packets.services.as_mut_slice() else { panic!("two Services") };
    dark.frontends[1].answer = Answer::Refused;
    web.frontends[1].answer = web.frontends[0].answer.clone();
    vec![("connect", inspection()), ("nftables", packets)]
}

fn one() -> Vec<(&'static str, Inspection)> {
    vec![("connect", inspection())]
}

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
    let mut inspection = Inspection::default();
    inspection.services = vec![dark, web];
    inspection
}

fn frontend(kind: FrontendKind, port: u16, answer: Answer) -> InspectedFrontend {
    InspectedFrontend { frontend: Frontend::new(kind, NonZeroU16::new(port).unwrap()), answer }
}

#[test]
fn services_are_a_table_like_kubectls() {
    let cells: Vec<_> = services(&one()).iter().map(ServiceRow::cells).collect();
    assert_eq!(
        table(ServiceRow::HEADER, &cells),
        "\
NAMESPACE   NAME   PORT   PROTOCOL   KIND             ADDRESS         ENDPOINTS   AFFINITY   BY
shop        dark   -      UDP        ClusterIP        [fd00::11]:53   refused     -          connect
shop        dark   -      UDP        LoadBalancerIP   [fd00::11]:54   left        -          connect
shop        web    http   TCP        ClusterIP        10.96.0.10:80   2           600s       connect
shop        web    http   TCP        NodePort         *:30080         1           600s       connect
"
    );
}

#[test]
fn what_both_dataplanes_do_is_one_row_and_where_they_differ_two() {
    let cells: Vec<_> = services(&both()).iter().map(ServiceRow::cells).collect();
    let shown: Vec<_> =
        cells.iter().map(|cells| [5, 6, 8].map(|column| cells[column].as_str())).collect();
    assert_eq!(
        shown,
        [
            ["[fd00::11]:53", "refused", "connect,nftables"],
            ["[fd00::11]:54", "left", "connect"],
            ["[fd00::11]:54", "refused", "nftables"],
            ["10.96.0.10:80", "2", "connect,nftables"],
            ["*:30080", "1", "connect"],
            ["*:30080", "2", "nftables"],
        ]
    );
    let cells: Vec<_> = endpoints(&both(), None).iter().map(EndpointRow::cells).collect();
    let shown: Vec<_> =
        cells.iter().map(|cells| [4, 5, 6].map(|column| cells[column].as_str())).collect();
    assert_eq!(
        shown,
        [
            ["10.244.1.2:8080", "ClusterIP,NodePort", "connect,nftables"],
            ["10.244.2.3:8080", "ClusterIP", "connect"],
            ["10.244.2.3:8080", "ClusterIP,NodePort", "nftables"],
        ]
    );
}

#[test]
fn endpoints_say_through_what_they_are_reached() {
    let check = |wanted: Option<&str>, expected: usize| {
        assert_eq!(endpoints(&one(), wanted).len(), expected, "{wanted:?}");
    };
    check(None, 2);
    check(Some("web"), 2);
    check(Some("shop/web"), 2);
    check(Some("other/web"), 0);
    check(Some("dark"), 0);
    let cells: Vec<_> = endpoints(&one(), None).iter().map(EndpointRow::cells).collect();
    assert_eq!(
        table(EndpointRow::HEADER, &cells),
        "\
NAMESPACE   NAME   PORT   PROTOCOL   ENDPOINT          THROUGH              BY
shop        web    http   TCP        10.244.1.2:8080   ClusterIP,NodePort   connect
shop        web    http   TCP        10.244.2.3:8080   ClusterIP            connect
"
    );
}

#[test]
fn json_names_what_the_table_shows() {
    let json = serde_json::to_value(services(&both())).unwrap();
    assert_eq!(
        json[3],
        serde_json::json!({
            "namespace": "shop", "name": "web", "port": "http", "protocol": "TCP",
            "family": "IPv4", "kind": "ClusterIP", "address": "10.96.0.10:80",
            "answer": "endpoints", "endpoints": 2, "affinitySeconds": 600,
            "dataplanes": ["connect", "nftables"],
        })
    );
}
