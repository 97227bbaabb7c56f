//! From parsed objects to a kernel that serves them, on an empty machine.

use std::time::Duration;

use anyhow::Result;
use shunt_harness::{crowd, probe::ProbeProgram, world::World};

use crate::{
    in_a_world,
    rig::Rig,
    table::{Table, quantile, time},
};

/// How often it is measured: a fill is over before a busy machine has shown all its faces.
const FILLS: usize = 9;

/// Fills empty tables, each time in a world of its own.
pub(crate) fn measure(program: &ProbeProgram, services: u16, table: &mut Table) -> Result<()> {
    let mut fills = Vec::with_capacity(FILLS);
    for _ in 0..FILLS {
        in_a_world(program, |world| {
            fills.push(fill(world, services)?);
            Ok(())
        })?;
    }
    let [mut all, mut tables] = [Vec::new(), Vec::new()];
    for (took, of_tables) in fills {
        all.push(took);
        tables.push(of_tables);
    }
    let [least, middle] = [0.0, 0.5].map(|share| quantile(&mut all, share));
    let [least_tables, middle_tables] = [0.0, 0.5].map(|share| quantile(&mut tables, share));
    let goal = if services == 10_000 { "< 40 ms" } else { "< 170 ms" };
    table.row(
        &format!("first fill, {services} Services × 2 endpoints, median and least of {FILLS}"),
        &format!("{}, {}", time(middle), time(least)),
        &format!("of which the tables: {}, {}", time(middle_tables), time(least_tables)),
        goal,
    );
    Ok(())
}

/// How long it took as a whole, and the tables alone.
fn fill(world: &World, services: u16) -> Result<(Duration, Duration)> {
    let mut rig = Rig::start(world)?;
    let updates = crowd::updates(services);
    rig.applies();
    let took = rig.fill(updates)?;
    Ok((took, rig.applies().iter().sum()))
}
