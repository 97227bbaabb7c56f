//! `cargo xtask bench`: figures, never a test.

use anyhow::Result;

use crate::process::{cargo, run as run_command};

/// Runs the benchmarks of the harness, optimised; each prints its own table.
pub(crate) fn run(args: &[String]) -> Result<()> {
    run_command(cargo().args(["bench", "--locked", "--package", "shunt-harness", "--"]).args(args))
}
