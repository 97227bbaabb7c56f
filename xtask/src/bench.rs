//! `cargo xtask bench`: figures, never a test.

use anyhow::Result;

use crate::{
    kubernetes,
    process::{cargo, run as run_command},
    setup, workspace,
};

/// What kube-proxy calls.
const PACKAGES: [&str; 2] = ["iptables", "nftables"];

/// Runs the benchmarks of the harness, optimised, beside an optimised agent. The first argument
/// may name one that is not of the dataplanes alone.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let bench = match args.first().map(String::as_str) {
        Some("cluster") => {
            setup::packages(&PACKAGES)?;
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
