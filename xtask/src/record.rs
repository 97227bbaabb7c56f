//! `ebpf/object/record.toml`: what the checked-in object was made from, and by what.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use cargo_metadata::Metadata;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{tools::Toolchain, workspace};

/// The record beside the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Hash over everything that the programs are compiled from.
    pub(crate) source: String,
    /// Hash of the object.
    pub(crate) object: String,
    /// What compiled it.
    pub(crate) toolchain: Toolchain,
}

impl Record {
    /// Reads the record.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a record", path.display()))
    }

    /// Writes the record.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = format!(
            "# Written by `cargo xtask ebpf`; `cargo xtask ebpf --check` compares.\n{}",
            toml::to_string(self).context("cannot encode the record")?
        );
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The hash over the programs' source: files, manifest, and the locked versions of what they are
/// compiled with. Names and lengths are in it, so that no two trees look alike.
pub(crate) fn source_hash(metadata: &Metadata) -> Result<String> {
    let root = workspace::root();
    let mut files = vec![root.join("ebpf/Cargo.toml")];
    files.extend(workspace::files(&root.join("ebpf/src"))?);
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(&root)?.to_string_lossy();
        hash.update(format!("{name} {}\n", bytes.len()));
        hash.update(bytes);
    }
    let mut locked: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| package.name.starts_with("aya-ebpf"))
        .map(|package| format!("{} {}\n", package.name, package.version))
        .collect();
    locked.sort();
    hash.update(locked.concat());
    Ok(hex(&hash.finalize()))
}

/// The hash of an object.
pub(crate) fn object_hash(object: &[u8]) -> String {
    hex(&Sha256::digest(object))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
