//! The agent against Kubernetes' own kube-proxy: random clusters, given to both in twin worlds, in
//! which the same is sent; every answer has to be the same, but for the differences on purpose in
//! `harness/testdata/differences.json`.
//!
//! `SHUNT_CLUSTERS` is how many clusters, `SHUNT_SEED` the first one's seed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deliberate;
mod dice;
mod generate;
mod look;
mod twin;

use shunt_harness::{
    apiserver::{ApiServer, Place, Programs, objects},
    probe::{ProbeProgram, main_if_asked},
    tier,
};

use crate::{
    deliberate::Deliberate,
    dice::Dice,
    generate::Draft,
    look::{Cell, Outcome},
    twin::{Proxy, Twin},
};

/// Clusters of a run that says nothing else.
const CLUSTERS: u64 = 3;

#[test]
fn probe_process() {
    main_if_asked().unwrap();
}

#[test]
fn the_packet_path_answers_as_kube_proxy_does() {
    compare("nftables");
}

#[test]
fn both_dataplanes_together_answer_as_kube_proxy_does() {
    compare("auto");
}

/// Compares the agent in a mode with kube-proxy in nftables mode.
fn compare(mode: &'static str) {
    let Some(programs) = Programs::or_skip() else { return };
    if !tier::may_run_privileged() {
        return;
    }
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
    };
    let (first, clusters) = (number("SHUNT_SEED", 1), number("SHUNT_CLUSTERS", CLUSTERS));
    let server = ApiServer::start(&programs, Place::Loopback).unwrap();
    let program = ProbeProgram::this_test("probe_process").unwrap();
    let theirs = Twin::start(&program, &server, &Proxy::KubeProxy(programs)).unwrap();
    let ours = Twin::start(&program, &server, &Proxy::Shunt(mode)).unwrap();
    let addresses = [theirs.node().v4.into(), theirs.node().v6.into()];
    server
        .client()
        .create(&objects::node(shunt_harness::world::World::OWN_NODE, &addresses))
        .unwrap();
    let deliberate = Deliberate::read(mode);
    let mut mismatches = Vec::new();
    let mut cells = 0;
    for seed in first..first + clusters {
        let draft = Draft::new(&mut Dice::new(seed), &theirs.world);
        let cluster = draft.create(server.client()).unwrap();
        for twin in [&theirs, &ours] {
            twin.until_served(cluster.marker).unwrap();
        }
        let found = differences(&theirs, &ours, &cluster.cells);
        cells += cluster.cells.len();
        for (cell, [there, here]) in found {
            if !deliberate.explains(&cell, &there, &here) {
                mismatches.push(format!(
                    "seed {seed}: {cell}\n  kube-proxy: {there}\n  Shunt:      {here}\n  {}",
                    cell.service
                ));
            }
        }
        cluster.delete(server.client()).unwrap();
    }
    assert!(
        mismatches.is_empty(),
        "{} of {cells} answers differ ({mode}):\n{}",
        mismatches.len(),
        mismatches.join("\n")
    );
}

/// The cells with different outcomes. What differs is looked at again, longer: chance and a busy
/// machine are no difference.
fn differences(theirs: &Twin, ours: &Twin, cells: &[Cell]) -> Vec<(Cell, [Outcome; 2])> {
    let mut left: Vec<Cell> = cells.to_vec();
    let mut found = Vec::new();
    for patience in [1, 3, 8] {
        let [there, here] = [theirs, ours].map(|twin| twin.look(&left, patience).unwrap());
        found = left
            .into_iter()
            .zip(there.into_iter().zip(here))
            .filter(|(_, (there, here))| there != here)
            .map(|(cell, (there, here))| (cell, [there, here]))
            .collect();
        left = found.iter().map(|(cell, _)| cell.clone()).collect();
    }
    found
}
