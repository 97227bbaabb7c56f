//! Whatever changes, and wherever it is cut short, a connect sees the old state or the new one.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use proptest::prelude::*;
use shunt_core::plan::Delta;

use super::{
    super::{
        super::sys::{
            Word,
            fake::Fake,
            faulty::{Faults, Faulty},
        },
        Tables,
    },
    world::{Allowed, ManualGrace, Step, World, check_no_leak, steps},
};

fn adopt(fake: &Fake, faults: &Arc<Faults>) -> Tables<Faulty<Fake>> {
    let kernel = Faulty::new(fake.clone(), Arc::clone(faults));
    Tables::adopt(kernel, ManualGrace::boxed(fake), true).unwrap()
}

/// Applies a Delta as the engine does: what failed is tried again, merged with what is new.
fn apply(tables: &mut Tables<Faulty<Fake>>, world: &World, pending: &mut Delta) -> bool {
    let report = tables.apply(pending);
    let success = report.is_success();
    *pending = Delta::default();
    for key in report.failed.into_keys() {
        let port = world.planned.get(&key).cloned();
        pending.service_ports.insert(key, port);
    }
    success
}

/// Takes the steps with so many percent of the calls failing; returns how many faults there were.
fn churn(steps: &[Step], percent: u64, seed: u64) -> u64 {
    let fake = Fake::new(&[]);
    let faults = Faults::new(seed);
    let allowed = Allowed::default();
    let mut world = World::default();
    let mut tables = adopt(&fake, &faults);
    let mut pending = Delta::default();
    allowed.only(&world.answers());
    allowed.watch(&fake);
    faults.percent.store(percent, Relaxed);
    for step in steps {
        pending.merge(world.step(step));
        allowed.also(&world.answers());
        if apply(&mut tables, &world, &mut pending) {
            allowed.only(&world.answers());
            allowed.check(&fake.state());
        }
    }
    faults.percent.store(0, Relaxed);
    assert!(apply(&mut tables, &world, &mut pending) || apply(&mut tables, &world, &mut pending));
    allowed.only(&world.answers());
    allowed.check(&fake.state());
    assert_eq!(fake.state().word(Word::EPOCH) % 2, 0, "the epoch is left odd");
    check_no_leak(&mut tables);
    faults.injected.load(Relaxed)
}

/// Takes the steps, dies after so many writes, and takes over.
fn kill(steps: &[Step], dies_after: u64) {
    let fake = Fake::new(&[]);
    let faults = Faults::new(1);
    let allowed = Allowed::default();
    let mut world = World::default();
    let mut tables = adopt(&fake, &faults);
    allowed.only(&world.answers());
    allowed.watch(&fake);
    faults.dies_after.store(dies_after, Relaxed);
    for step in steps {
        let delta = world.step(step);
        allowed.also(&world.answers());
        if !tables.apply(&delta).is_success() {
            break;
        }
        allowed.only(&world.answers());
    }
    drop(tables);
    let faults = Faults::new(1);
    let mut tables = adopt(&fake, &faults);
    allowed.check(&fake.state());
    assert!(tables.apply(&world.complete()).is_success());
    allowed.only(&world.answers());
    allowed.check(&fake.state());
    check_no_leak(&mut tables);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_write_leaves_the_old_state_or_the_new_one(steps in steps(12)) {
        prop_assert_eq!(churn(&steps, 0, 1), 0);
    }

    #[test]
    fn a_kill_after_any_write_is_mended_by_the_next_run(steps in steps(8), dies_after in 1..120_u64) {
        kill(&steps, dies_after);
    }
}

/// One test over many runs, because a single one may meet no fault at all.
#[test]
fn a_fifth_of_the_calls_may_fail() {
    let injected = std::cell::Cell::new(0);
    let seeds = any::<u64>();
    proptest!(ProptestConfig::with_cases(200), |(steps in steps(12), seed in seeds)| {
        injected.set(injected.get() + churn(&steps, 20, seed));
    });
    assert!(injected.get() > 500, "only {} faults were injected", injected.get());
}

/// Applying the same state again writes nothing at all.
#[test]
fn the_same_again_writes_nothing() {
    proptest!(ProptestConfig::with_cases(50), |(steps in steps(8))| {
        let fake = Fake::new(&[]);
        let mut world = World::default();
        let mut tables = adopt(&fake, &Faults::new(1));
        for step in &steps {
            tables.apply(&world.step(step));
        }
        let fresh = world.complete();
        tables.settle();
        let mut again = adopt(&fake, &Faults::new(1));
        fake.observe(Some(Box::new(|_| panic!("something was written"))));
        prop_assert!(tables.apply(&fresh).is_success());
        prop_assert!(again.apply(&fresh).is_success());
        fake.observe(None);
    });
}
