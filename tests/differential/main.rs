//! The agent against Kubernetes' own kube-proxy: random clusters, given to both in twin worlds, in
//! which the same is sent; every answer has to be the same, but for the differences on purpose in
//! `harness/testdata/differences.json`. Each of these is shown by a cluster written by hand, and so
//! is what random ones have found: `scenarios.rs`.
//!
//! `SHUNT_CLUSTERS` is how many random clusters, `SHUNT_SEED` the first one's seed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod settings;

mod dice;

mod generate;

mod scenarios;

mod cluster;

mod look;

mod knock;

mod sctp;

mod twin;

mod pair;

mod sticky;

mod deliberate;

use std::{collections::BTreeSet, env, path::Path};

use shunt_harness::{
    apiserver::{ApiServer, Place, Programs},
    probe::{ProbeProgram, main_if_asked},
    tier,
};

use crate::{
    deliberate::Deliberate,
    dice::Dice,
    pair::{Pair, Report},
    scenarios::Scenario,
    settings::{Modes, SETTINGS},
};

/// Random clusters of a run that says nothing else.
const CLUSTERS: u64 = 3;

#[test]
fn probe_process() {
    main_if_asked().unwrap();
}

#[test]
fn the_packet_path_answers_as_kube_proxy_does() {
    compare(Modes { theirs: "nftables", ours: "nftables" });
}

#[test]
fn both_dataplanes_together_answer_as_kube_proxy_does() {
    compare(Modes { theirs: "nftables", ours: "auto" });
}

#[test]
fn the_packet_path_answers_as_kube_proxy_with_iptables_does() {
    compare(Modes { theirs: "iptables", ours: "nftables" });
}

#[test]
fn both_dataplanes_together_answer_as_kube_proxy_with_iptables_does() {
    compare(Modes { theirs: "iptables", ours: "auto" });
}

#[test]
fn every_difference_on_purpose_has_a_scenario() {
    let deliberate = Deliberate::read();
    let scenarios = Scenario::all();
    let shown: BTreeSet<_> = scenarios.iter().filter_map(|scenario| scenario.difference).collect();
    let names: BTreeSet<_> = deliberate.0.iter().map(|known| known.name.as_str()).collect();
    assert_eq!(names, shown);
    assert_eq!(names.len(), deliberate.0.len(), "a name is there twice");
    for scenario in scenarios {
        let known = scenario.difference.map(|name| deliberate.named(name));
        for modes in Modes::ALL {
            let differs = scenario.answers.iter().any(|answer| answer.theirs != answer.ours(modes));
            let shows = known.is_some_and(|difference| difference.shows_in(modes));
            assert!(differs || !shows, "{}: {modes}: nothing differs", scenario.name);
            assert!(!differs || known.is_some(), "{}: what differs is not listed", scenario.name);
        }
    }
}

/// Compares the agent with kube-proxy: by every scenario, and in random clusters.
#[expect(clippy::print_stderr, reason = "how much was compared is what a long run is for")]
fn compare(modes: Modes) {
    let Some(programs) = Programs::or_skip() else { return };
    if !tier::may_run_privileged() {
        return;
    }
    if modes.theirs == "iptables" && !Path::new("/usr/sbin/iptables").exists() {
        return tier::skip("kube-proxy in mode iptables needs /usr/sbin/iptables");
    }
    let number = |name: &str, default: u64| {
        env::var(name).ok().map_or(default, |text| text.parse().unwrap())
    };
    let (first, clusters) = (number("SHUNT_SEED", 1), number("SHUNT_CLUSTERS", CLUSTERS));
    let server = ApiServer::start(&programs, Place::Loopback).unwrap();
    let program = ProbeProgram::this_test("probe_process").unwrap();
    let deliberate = Deliberate::read();
    let mut report = Report::default();
    for (settings, remainder) in SETTINGS.into_iter().zip(0..) {
        let mut pair = Pair::start(&program, (&server, &programs), &deliberate, modes, settings);
        for scenario in Scenario::all() {
            if scenario.settings == settings {
                pair.check(&scenario, &mut report);
            }
        }
        for seed in (first..first + clusters).filter(|seed| seed % 2 == remainder) {
            let services = pair.services(&mut Dice::new(seed));
            pair.compare(&format!("seed {seed}"), services, &mut report);
        }
    }
    let Report { clusters, answers, explained, mismatches } = report;
    eprintln!("{modes}: {clusters} random clusters, {answers} answers; on purpose: {explained:?}");
    assert!(
        mismatches.is_empty(),
        "{} of {answers} answers differ ({modes}):\n{}",
        mismatches.len(),
        mismatches.join("\n")
    );
}
