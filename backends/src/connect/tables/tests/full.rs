//! A table that is full costs the ServicePort that has no room, and nobody else.

use std::collections::HashMap;

use proptest::prelude::*;
use shunt_core::{backend::LeftReason, plan::Delta};

use super::{
    super::{
        super::sys::{Array, Hash, Table, fake::Fake},
        Tables,
    },
    world::{Allowed, Answer, ManualGrace, Step, World, check_no_leak, slots, steps},
};

/// Takes the steps with tables of these sizes; returns how often a ServicePort was left for lack
/// of room.
fn crowd(sizes: &[(Table, u32)], steps: &[Step]) -> usize {
    let fake = Fake::new(sizes);
    let allowed = Allowed::default();
    let nowhere: HashMap<_, _> =
        slots().into_iter().map(|slot| (slot, Answer::Untranslated)).collect();
    let mut world = World::default();
    let mut tables = Tables::adopt(fake.clone(), ManualGrace::boxed(&fake), true).unwrap();
    allowed.only(&nowhere);
    allowed.watch(&fake);
    let mut crowded = 0;
    for step in steps {
        let delta = world.step(step);
        allowed.also(&world.answers());
        let report = tables.apply(&delta);
        assert!(report.is_success(), "{report:?}");
        let full = |reason: &&LeftReason| matches!(reason, LeftReason::Full(_));
        crowded += report.left.values().filter(full).count();
        allowed.only(&expected(&tables, &world));
        allowed.check(&fake.state());
        allowed.also(&nowhere);
        // What is left now may be taken with the next Delta, if something was freed.
        allowed.also(&world.answers());
    }
    make_room(&mut tables, &mut world);
    allowed.only(&expected(&tables, &world));
    allowed.check(&fake.state());
    check_no_leak(&mut tables);
    crowded
}

/// What a connect is to get: nothing from ServicePorts that are left for lack of room.
fn expected(tables: &Tables<Fake>, world: &World) -> HashMap<super::super::Slot, Answer> {
    let mut served = world.clone();
    served.planned.retain(|key, _| !tables.full.contains_key(key));
    served.answers()
}

/// Removes all ServicePorts but one, which must then be served.
fn make_room(tables: &mut Tables<Fake>, world: &mut World) {
    let keys: Vec<_> = world.planned.keys().cloned().collect();
    let mut delta = Delta::default();
    for key in keys.into_iter().skip(1) {
        world.planned.remove(&key);
        delta.service_ports.insert(key, None);
    }
    tables.kernel.observe(None);
    assert!(tables.apply(&delta).is_success());
    tables.sweep();
    tables.collect(true);
    assert!(tables.apply(&Delta::default()).is_success());
    assert!(tables.full.is_empty(), "{:?} found no room", tables.full.keys());
}

fn check(name: &str, sizes: &[(Table, u32)]) {
    let crowded = std::cell::Cell::new(0);
    proptest!(ProptestConfig::with_cases(200), |(steps in steps(10))| {
        crowded.set(crowded.get() + crowd(sizes, &steps));
    });
    assert!(crowded.get() > 10, "{name} was full only {} times", crowded.get());
}

#[test]
fn one_without_room_is_left_whole() {
    check("FRONTENDS4", &[(Table::Hash(Hash::Frontends4), 3)]);
    check("FRONTENDS6", &[(Table::Hash(Hash::Frontends6), 3)]);
    check("SERVICES", &[(Table::Hash(Hash::Services), 3)]);
    check("LISTS", &[(Table::Array(Array::Lists), 4)]);
    check("ENDPOINTS", &[(Table::Array(Array::Endpoints), 16)]);
}
