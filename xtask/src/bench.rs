//! `cargo xtask bench`: figures, never a test.

use anyhow::Result;

use crate::{
    process::{cargo, run as run_command},
    workspace,
};

/// Runs the benchmarks of the harness, optimised, beside an optimised agent.
pub(crate) fn run(args: &[String]) -> Result<()> {
    run_command(cargo().args(["build", "--locked", "--release", "--package", "shunt"]))?;
    let agent = workspace::metadata()?.target_directory.join("release/shunt");
    run_command(
        cargo()
            .args(["bench", "--locked", "--package", "shunt-harness", "--bench", "connect_time"])
            .arg("--")
            .args(args)
            .env("SHUNT_AGENT", agent),
    )
}
