//! Where the tools are that the workspace needs beside stable Rust.

use std::{env, ffi::OsString, fmt, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::process::{command, output};

/// Debian's build of rustc, for which there is a prebuilt `core` for BPF.
pub(crate) const RUSTC: &str = "/usr/bin/rustc";

/// The clippy of [`RUSTC`]: it asks the same compiler, so that it can check the BPF target.
pub(crate) const CLIPPY: &str = "/usr/bin/cargo-clippy";

/// The version of bpf-linker that is installed, if none is there.
pub(crate) const BPF_LINKER: &str = "0.13.0";

/// The folder that tools are installed to, outside the checkout: `$SHUNT_TOOLS`, or
/// `~/.cache/shunt-tools`.
pub(crate) fn folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("SHUNT_TOOLS") {
        return Ok(folder.into());
    }
    let home = env::var_os("HOME").context("neither SHUNT_TOOLS nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/shunt-tools"))
}

/// An installed tool, which may not be there.
pub(crate) fn tool(name: &str) -> Result<PathBuf> {
    Ok(folder()?.join("bin").join(name))
}

/// PATH with the tools in front.
pub(crate) fn path() -> Result<OsString> {
    let bin = folder()?.join("bin");
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(bin).chain(env::split_paths(&rest)))
        .context("cannot put the tools in front of PATH")
}

/// What compiles the eBPF programs here: rustc, its LLVM, and the linker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toolchain {
    /// First line of `rustc -V`.
    pub(crate) rustc: String,
    /// LLVM's version, in full.
    pub(crate) llvm: String,
    /// `bpf-linker --version`.
    pub(crate) linker: String,
    /// `cargo -V`: cargo decides on the hashes in symbol names.
    pub(crate) cargo: String,
}

impl Toolchain {
    /// Asks the tools.
    pub(crate) fn find() -> Result<Self> {
        let verbose = output(command(RUSTC).arg("-vV"))?;
        Ok(Self {
            rustc: verbose.lines().next().unwrap_or_default().to_owned(),
            llvm: llvm_version(&verbose)?.to_owned(),
            linker: output(command(&tool("bpf-linker")?.to_string_lossy()).arg("--version"))?
                .trim()
                .to_owned(),
            cargo: output(crate::process::cargo().arg("-V"))?.trim().to_owned(),
        })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, LLVM {}, {}, {}", self.rustc, self.llvm, self.linker, self.cargo)
    }
}

/// A tool of the LLVM that [`RUSTC`] was built with.
pub(crate) fn llvm_tool(name: &str) -> Result<String> {
    let verbose = output(command(RUSTC).arg("-vV"))?;
    let major = llvm_version(&verbose)?.split('.').next().unwrap_or_default();
    Ok(format!("/usr/lib/llvm-{major}/bin/{name}"))
}

/// The version of LLVM in the output of `rustc -vV`.
pub(crate) fn llvm_version(verbose: &str) -> Result<&str> {
    verbose
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .context("rustc -vV does not tell its LLVM version")
}
