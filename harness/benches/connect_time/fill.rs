//! From parsed objects to a kernel that serves them, on an empty machine.

use anyhow::Result;
use shunt_harness::{crowd, world::World};

use crate::{
    rig::Rig,
    table::{Table, time},
};

/// Fills empty tables.
pub(crate) fn measure(world: &World, services: u16, table: &mut Table) -> Result<()> {
    let mut rig = Rig::start(world)?;
    let updates = crowd::updates(services);
    let took = rig.fill(updates)?;
    let tables: std::time::Duration = rig.applies().iter().sum();
    let goal = if services == 10_000 { "< 40 ms" } else { "< 170 ms" };
    table.row(
        &format!("first fill, {services} Services × 2 endpoints"),
        &format!("{} ({:.0} Services/s)", time(took), f64::from(services) / took.as_secs_f64()),
        &format!("of which the tables: {}", time(tables)),
        goal,
    );
    Ok(())
}
