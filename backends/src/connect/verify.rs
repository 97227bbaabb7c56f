//! The proof that the kernel does what was applied, and mending what does not: requirement 10.

use std::os::fd::AsFd as _;

use shunt_core::{backend::Verdict, model::Family};
use shunt_ebpf::tables::Endpoint;

use super::{
    backend::Running, bpffs, canary::Canary, encode::encode_address, links::Attached, slot::Slot,
    sys, tables::Audit,
};

/// Checks, mends and checks again.
pub(super) fn verify(running: &mut Running) -> Verdict {
    let mut verdict = Verdict::default();
    mend_pins(running, &mut verdict);
    mend_tables(running, &mut verdict);
    if running.is_moving {
        let text = "The programs still use the tables of an earlier version; they move when \
                    everything has been applied to the new ones.";
        verdict.problems.push(text.to_owned());
        return verdict;
    }
    if let Some(successor) = running.cgroup.successor() {
        let path = successor.path.display();
        verdict.repaired.push(format!("Cgroup {path} was removed and made again."));
        running.cgroup = successor;
    }
    mend_links(running, &mut verdict);
    check_effective(running, &mut verdict);
    if let Some(doubt) = running.cgroup.doubt() {
        verdict.problems.push(sentence(&doubt));
    }
    if running.canaries.is_empty() {
        put_canaries(running);
    }
    if running.canaries.is_empty() {
        let text = "The canary cannot run: this network namespace has no loopback address; is \
                    interface lo down?";
        verdict.problems.push(text.to_owned());
    }
    for canary in &running.canaries {
        verdict.problems.extend(canary.sing(&running.cgroup).err().map(|text| sentence(&text)));
    }
    verdict
}

/// Links that are gone, were detached, or run something else.
fn mend_links(running: &mut Running, verdict: &mut Verdict) {
    match running.links.attach(&running.programs, &running.cgroup) {
        Ok(attached) => {
            for (hook, how) in attached {
                let what = match how {
                    Attached::Already => continue,
                    Attached::New => "was gone and has been attached again",
                    Attached::Anew => "was detached and has been attached again",
                    Attached::Replaced => "ran another program and runs ours again",
                    Attached::Pinned => "was no longer pinned and has been pinned again",
                };
                verdict.repaired.push(format!("The link of {} {what}.", hook.program));
            }
        }
        Err(error) => verdict.problems.push(describe(&error)),
    }
}

/// (a): the programs that the kernel runs for the cgroup include ours.
fn check_effective(running: &Running, verdict: &mut Verdict) {
    for (hook, _, ours) in running.programs.all() {
        let ids = sys::effective_programs(running.cgroup.fd.as_fd(), hook.attach_type);
        match ids {
            Ok(ids) if ids.contains(&ours) => {}
            Ok(_) => verdict.problems.push(format!(
                "The kernel does not run {} for cgroup {}.",
                hook.program,
                running.cgroup.path.display()
            )),
            Err(error) => verdict.problems.push(format!(
                "The programs of cgroup {} cannot be listed at {}: {error}.",
                running.cgroup.path.display(),
                hook.program
            )),
        }
    }
}

/// Pins that someone removed, one by one or with their file system.
fn mend_pins(running: &Running, verdict: &mut Verdict) {
    match bpffs::ensure(running.pins.root()) {
        Ok(warning) => verdict.problems.extend(warning.map(|text| sentence(&text))),
        Err(error) => {
            let path = running.pins.root().display();
            verdict.problems.push(format!("There is no bpffs for {path}: {error}."));
        }
    }
    match running.held.pin(&running.pins.links()) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => verdict
            .repaired
            .push(format!("Pins were gone and have been made again: {}.", names.join(", "))),
        Err(error) => verdict.problems.push(format!("A pin cannot be made again: {error}.")),
    }
}

fn mend_tables(running: &mut Running, verdict: &mut Verdict) {
    match running.store_control() {
        Ok(false) => {}
        Ok(true) => {
            verdict.repaired.push("Table CONTROL had another network namespace.".to_owned())
        }
        Err(error) => verdict.problems.push(format!("Table CONTROL cannot be written: {error}.")),
    }
    match running.tables.audit() {
        Ok(audit) if audit == Audit::default() => {}
        Ok(audit) => verdict.repaired.push(format!("Tables had been changed by others: {audit}.")),
        Err(error) => verdict.problems.push(format!("The tables cannot be checked: {error}.")),
    }
}

/// Makes a canary in each family that has a loopback address here.
pub(super) fn put_canaries(running: &mut Running) {
    for family in Family::ALL {
        let Ok(canary) = Canary::listen(family) else { continue };
        let slot = Slot::at(canary.dialled.ip(), canary.dialled.port(), 6);
        let endpoint = Endpoint::new(encode_address(canary.backend.ip()), canary.backend.port());
        match running.tables.put_canary(slot, endpoint) {
            Ok(()) => running.canaries.push(canary),
            Err(error) => tracing::warn!(%error, "the canary has no frontend"),
        }
    }
}

/// An error and its causes as one sentence.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    sentence(&text)
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}
