//! `cargo xtask test`: everything that CI runs, in the order in which a failure is cheapest.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Metadata, TargetKind};

use crate::{
    ebpf, kernels, kubernetes, lint,
    process::{cargo, command, require_all, run as run_command, say},
    setup, tools, workspace,
};

/// Runs every step. Without REQUIRE_ALL=1, what this machine cannot do is skipped and named.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    let mut skipped = set_up()?;
    let _fresh = if skipped.is_empty() { Some(ebpf::fresh()?) } else { None };
    skipped.extend(kubernetes::set_up()?);
    lint::run()?;
    let metadata = workspace::metadata()?;
    features(&metadata)?;
    run_command(cargo().args(["test", "--locked", "--workspace", "--no-fail-fast"]))?;
    examples(&metadata)?;
    documentation()?;
    licences()?;
    skipped.extend(on_kernels()?);
    for step in &skipped {
        say(&format!("SKIP {step}"));
    }
    say(&format!("all steps passed in {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Installs what is missing, and returns what could not be: without Debian or root the eBPF
/// programs cannot be compiled, but the checked-in object can be tested all the same.
fn set_up() -> Result<Vec<String>> {
    match setup::install() {
        Ok(()) => Ok(Vec::new()),
        Err(error) if require_all() => Err(error).context("set-up failed"),
        Err(error) => Ok(vec![format!("compiling the eBPF programs: {error:#}")]),
    }
}

/// Every combination of the plug-ins' features must compile: one that is off is an error of the
/// program that says so, never one of the compiler.
fn features(metadata: &Metadata) -> Result<()> {
    let plugins = metadata
        .workspace_packages()
        .into_iter()
        .find(|package| package.name.as_str() == "shunt-plugins")
        .context("the workspace has no shunt-plugins")?;
    let names: Vec<&str> =
        plugins.features.keys().map(String::as_str).filter(|name| *name != "default").collect();
    for set in 0..1_u32 << names.len() {
        let chosen: Vec<&str> = names
            .iter()
            .enumerate()
            .filter(|(bit, _)| set >> bit & 1 == 1)
            .map(|(_, name)| *name)
            .collect();
        run_command(
            cargo()
                .args(["clippy", "--locked", "--package", "shunt-plugins", "--no-default-features"])
                .args(["--features", &chosen.join(","), "--", "--deny", "warnings"]),
        )?;
    }
    Ok(())
}

/// Runs the examples: one that is only compiled may have stopped working.
fn examples(metadata: &Metadata) -> Result<()> {
    for package in metadata.workspace_packages() {
        let examples =
            package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Example));
        for example in examples {
            run_command(cargo().args(["run", "--quiet", "--locked", "--package"]).args([
                package.name.as_str(),
                "--example",
                &example.name,
            ]))?;
        }
    }
    Ok(())
}

fn documentation() -> Result<()> {
    run_command(
        cargo()
            .args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"])
            // Private items are in it, so links to them lead somewhere.
            .env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links"),
    )
}

fn licences() -> Result<()> {
    let deny = tools::tool("cargo-deny")?;
    if !deny.exists() {
        if require_all() {
            bail!("cargo-deny is not in {}", deny.display());
        }
        say("SKIP licences: cargo-deny is not there (cargo xtask setup)");
        return Ok(());
    }
    run_command(command(&deny.to_string_lossy()).current_dir(workspace::root()).args([
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// Runs what is to run on booted kernels, or says why not: to build them takes minutes and
/// gigabytes, which is only done for who wants everything.
fn on_kernels() -> Result<Option<String>> {
    if !require_all()
        && let Some(reason) = kernels::missing()?
    {
        return Ok(Some(format!("tests on booted kernels: {reason}")));
    }
    kernels::build()?;
    kernels::run(kernels::Scope::Test)?;
    Ok(None)
}
