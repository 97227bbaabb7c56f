//! What connect-time balancing and the packet path cost: `cargo xtask bench`.
//!
//! Everything is measured in a world of its own, on the machine as it is: figures are for reading,
//! never for a test. What is compared runs turn about, so that both sides see the same machine.
//!
//! Words on the command line choose figures: `connects`, `change`, `fill`, `memory`,
//! `packets`. None is all.

mod change;
mod connects;
mod fill;
mod memory;
mod packets;
mod rig;
mod table;

use anyhow::{Result, ensure};
use shunt_harness::{probe::ProbeProgram, tier::missing_privilege, world::World};

use crate::{rig::Rig, table::Table};

fn main() -> Result<()> {
    // `cargo test` runs benchmarks to see whether they start.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return Ok(());
    }
    let missing = missing_privilege();
    ensure!(missing.is_none(), "cannot measure: {}", missing.unwrap_or_default());
    let mut table = Table::default();
    let program = ProbeProgram::new(env!("CARGO_BIN_EXE_shunt-probe"), [""; 0]);
    if is_chosen("connects") {
        for services in [10, 50_000] {
            in_a_world(&program, |world| connects::measure(world, services, &mut table))?;
        }
    }
    if is_chosen("change") {
        in_a_world(&program, |world| change::measure(world, &mut table))?;
    }
    if is_chosen("fill") {
        for services in [10_000, 50_000] {
            fill::measure(&program, services, &mut table)?;
        }
    }
    if is_chosen("memory") {
        in_a_world(&program, |world| memory::measure(world, &mut table))?;
    }
    if is_chosen("packets") {
        in_a_world(&program, |world| packets::measure(world, &mut table))?;
    }
    table.print()
}

/// Whether the command line names a figure, or none at all; flags are cargo's.
fn is_chosen(figure: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--")).peekable();
    words.peek().is_none() || words.any(|word| word == figure)
}

/// Does something on the host of a fresh world, as an agent would: in its cgroup and on a thread
/// in its network namespace.
fn in_a_world(
    program: &ProbeProgram,
    work: impl FnOnce(&World) -> Result<()> + Send,
) -> Result<()> {
    let world = World::standard(program)?;
    let _membership = world.join_host()?;
    world.host().run(|| work(&world))?
}

/// A rig that already serves a crowd of Services.
fn crowded(world: &World, services: u16) -> Result<Rig> {
    let mut rig = Rig::start(world)?;
    rig.fill(shunt_harness::crowd::updates(services))?;
    Ok(rig)
}
