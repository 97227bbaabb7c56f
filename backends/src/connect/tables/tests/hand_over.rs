//! Names and numbers of ServicePorts: who is who after a hand-over that was cut short, and after a
//! take-over.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroU16,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use shunt_core::{
    model::{Family, ObjectName, Protocol},
    plan::{Delta, Endpoint, Frontend, FrontendKind, ServicePort, ServicePortKey},
};

use super::{
    super::{
        super::{
            slot::Slot,
            sys::{
                fake::Fake,
                faulty::{Faults, Faulty},
            },
        },
        Tables,
    },
    world::{Answer, ManualGrace, connect},
};

fn key(name: &str) -> ServicePortKey {
    ServicePortKey {
        service: ObjectName::new("default", name),
        port: "".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    }
}

/// A ServicePort at this ClusterIP, served from one endpoint.
fn port(cluster_ip: SocketAddr, endpoint: SocketAddr) -> Arc<ServicePort> {
    let mut port = ServicePort::new();
    let number = NonZeroU16::new(cluster_ip.port()).unwrap();
    port.frontends = vec![Frontend::new(FrontendKind::ClusterIp(cluster_ip.ip()), number)].into();
    port.endpoints = vec![Endpoint::new(endpoint)];
    port.has_any = true;
    Arc::new(port)
}

fn delta(changes: &[(&str, Option<Arc<ServicePort>>)]) -> Delta {
    let mut delta = Delta::default();
    for (name, port) in changes {
        delta.service_ports.insert(key(name), port.clone());
    }
    delta
}

fn adopt(fake: &Fake, faults: &Arc<Faults>) -> Tables<Faulty<Fake>> {
    let kernel = Faulty::new(fake.clone(), Arc::clone(faults));
    Tables::adopt(kernel, ManualGrace::boxed(fake), true).unwrap()
}

/// The old owner's name must outlast its last frontend: without it a take-over takes the frontend
/// out, and connects would miss.
#[test]
fn a_frontend_whose_new_owner_failed_survives_a_take_over() {
    let service: SocketAddr = "10.96.0.1:80".parse().unwrap();
    let slot = Slot::at(service.ip(), service.port(), 6);
    let [old, new]: [SocketAddr; 2] =
        ["10.0.0.1:8080", "10.0.0.2:8080"].map(|text| text.parse().unwrap());
    let answers = [old, new].map(|endpoint| Answer::Endpoints(BTreeSet::from([endpoint])));
    let mut failed = 0;
    for seed in 0..300 {
        let fake = Fake::new(&[]);
        let faults = Faults::new(seed);
        let mut tables = adopt(&fake, &faults);
        assert!(tables.apply(&delta(&[("old", Some(port(service, old)))])).is_success());
        faults.percent.store(20, Relaxed);
        let change = delta(&[("old", None), ("new", Some(port(service, new)))]);
        failed += usize::from(!tables.apply(&change).is_success());
        faults.percent.store(0, Relaxed);
        drop(tables);
        drop(adopt(&fake, &faults));
        let answer = connect(&fake.state(), slot);
        assert!(answers.contains(&answer), "seed {seed}: {answer:?}");
    }
    assert!(failed > 30, "only {failed} hand-overs failed");
}

#[test]
fn a_number_is_not_given_out_again_after_a_take_over() {
    let fake = Fake::new(&[]);
    let faults = Faults::new(1);
    let endpoint: SocketAddr = "10.0.0.1:8080".parse().unwrap();
    let names = ["a", "b", "c", "d"];
    for (number, name) in (1..).zip(names) {
        let mut tables = adopt(&fake, &faults);
        let service = SocketAddr::new([10, 96, 0, number].into(), 80);
        assert!(tables.apply(&delta(&[(name, Some(port(service, endpoint)))])).is_success());
        let numbers: BTreeSet<u32> = tables.records.values().map(|record| record.service).collect();
        assert_eq!(numbers.len(), usize::from(number), "{numbers:?}");
    }
    let tables = adopt(&fake, &faults);
    let known: BTreeSet<String> =
        tables.records.keys().map(|key| key.service.to_string()).collect();
    assert_eq!(known, names.map(|name| format!("default/{name}")).into());
}
