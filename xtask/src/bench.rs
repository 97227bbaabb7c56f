//! `cargo xtask bench`: figures, never a test.

use anyhow::Result;

use crate::{
    kubernetes,
    process::{cargo, run as run_command},
    workspace,
};

/// Runs the benchmarks of the harness, optimised, beside an optimised agent. The first argument
/// may name one that is not of the dataplanes alone.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let bench = match args.first().map(String::as_str) {
        Some("differential") => return differential(args.get(1).map(String::as_str)),
        Some("cluster") => {
            kubernetes::build()?;
            "cluster"
        }
        _ => "dataplanes",
    };
    run_command(cargo().args(["build", "--locked", "--release", "--package", "shunt"]))?;
    let agent = workspace::metadata()?.target_directory.join("release/shunt");
    run_command(
        cargo()
            .args(["bench", "--locked", "--package", "shunt-harness", "--bench", bench])
            .arg("--")
            .args(args)
            .env("SHUNT_AGENT", agent),
    )
}

/// Compares the agent with kube-proxy in many random clusters; CI does it in a few.
fn differential(clusters: Option<&str>) -> Result<()> {
    kubernetes::build()?;
    run_command(
        cargo()
            .args(["test", "--locked", "--package", "shunt", "--test", "differential"])
            .args(["--", "--nocapture"])
            .env("SHUNT_CLUSTERS", clusters.unwrap_or(CLUSTERS))
            .env("REQUIRE_ALL", "1"),
    )
}

/// Random clusters of a run that does not say how many.
const CLUSTERS: &str = "200";
