//! `cargo xtask setup`: what a fresh machine lacks.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::{
    process::{cargo, command, output, run, say, succeeds},
    tools::{BPF_LINKER, RUSTC, folder, llvm_version, tool},
};

/// Debian's packages that compile and check BPF. The prebuilt `core` is the one thing that
/// rustup does not have: elsewhere it takes a nightly compiler.
const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "rust-web-clippy"];

/// Installs everything that is not there, but for what only the kernels for tests need: that is
/// installed when they are built.
pub(crate) fn install() -> Result<()> {
    components()?;
    packages(&PACKAGES)?;
    bpf_linker()?;
    cargo_deny()?;
    say(&format!("set-up is complete; tools are in {}", folder()?.display()));
    Ok(())
}

/// clippy and rustfmt for the compiler that builds everything but BPF.
fn components() -> Result<()> {
    let absent: Vec<_> = ["clippy", "fmt"]
        .into_iter()
        .filter(|name| !succeeds(cargo().args([name, "--version"])))
        .map(|name| if name == "fmt" { "rustfmt" } else { name })
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    run(command("rustup").args(["component", "add"]).args(absent))
}

/// Installs those of Debian's packages that are absent.
pub(crate) fn packages(names: &[&str]) -> Result<()> {
    let absent: Vec<_> = names.iter().filter(|name| !is_installed(name)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let list = absent.iter().map(|name| **name).collect::<Vec<_>>().join(" ");
    ensure!(
        Path::new("/usr/bin/apt-get").exists(),
        "{list} would have to be installed from Debian's packages, and this is no Debian; nothing \
         but `cargo xtask` needs them"
    );
    run(apt_get().arg("update")).context("run this as root, or install what it names yourself")?;
    run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(absent))
        .with_context(|| format!("cannot install {list}"))
}

fn apt_get() -> std::process::Command {
    let mut command = command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_installed(package: &str) -> bool {
    output(command("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// bpf-linker is built against the LLVM that Debian's rustc was built with: it reads that
/// compiler's bitcode. One from a cache needs the same LLVM to run.
fn bpf_linker() -> Result<()> {
    let verbose = output(command(RUSTC).arg("-vV"))?;
    let version = llvm_version(&verbose)?;
    let (major, rest) = version.split_once('.').context("LLVM's version has no dot")?;
    let minor = rest.split('.').next().unwrap_or("0");
    packages(&[&format!("llvm-{major}-dev"), "g++"])?;
    if succeeds(command(&tool("bpf-linker")?.to_string_lossy()).arg("--version")) {
        return Ok(());
    }
    let prefix = format!("/usr/lib/llvm-{major}");
    let feature = format!("llvm-{major}");
    run(install_tool("bpf-linker")?
        .args(["--version", BPF_LINKER, "--no-default-features", "--features", &feature])
        // What is there does not run.
        .arg("--force")
        .env("LLVM_PREFIX", &prefix)
        .env(format!("LLVM_SYS_{major}{minor}_PREFIX"), &prefix))
}

fn cargo_deny() -> Result<()> {
    if succeeds(command(&tool("cargo-deny")?.to_string_lossy()).arg("--version")) {
        return Ok(());
    }
    run(install_tool("cargo-deny")?.arg("--locked"))
}

/// `cargo install` into the tools' folder, away from the checkout and its configuration.
fn install_tool(name: &str) -> Result<std::process::Command> {
    let folder = folder()?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let mut command = cargo();
    command.args(["install", name, "--root"]).arg(&folder).current_dir(&folder);
    command.env("CARGO_TARGET_DIR", folder.join("target")).env_remove("RUSTFLAGS");
    Ok(command)
}
