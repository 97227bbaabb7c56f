//! `cargo xtask ebpf`: the programs, from source to the object that is checked in.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::Metadata;

use crate::{
    process::{cargo, run, say},
    record::{Record, object_hash, source_hash},
    tools::{RUSTC, Toolchain, llvm_tool, path},
    workspace,
};

const OBJECT: &str = "ebpf/object/shunt-ebpf.o";
const RECORD: &str = "ebpf/object/record.toml";
const TARGET: &str = "bpfel-unknown-none";

/// Compiles the programs into the checkout.
pub(crate) fn update() -> Result<()> {
    let metadata = workspace::metadata()?;
    let object = compile(&metadata)?;
    let record = Record {
        source: source_hash(&metadata)?,
        object: object_hash(&object),
        toolchain: Toolchain::find()?,
    };
    write(&workspace::root().join(OBJECT), &object)?;
    record.write(&workspace::root().join(RECORD))?;
    say(&format!("{OBJECT}: {} bytes", object.len()));
    Ok(())
}

/// Fails unless the checked-in object is what the source here compiles to.
pub(crate) fn check() -> Result<()> {
    fresh().map(drop)
}

/// Compiles the programs, compares them with the checked-in object, and lets everything that is
/// built until the value is dropped be built with the fresh ones.
///
/// The source must always be the recorded one. Another compiler makes other bytes from it: bytes
/// are compared only where the toolchain is the recorded one too.
pub(crate) fn fresh() -> Result<Fresh> {
    let metadata = workspace::metadata()?;
    let root = workspace::root();
    let record = Record::read(&root.join(RECORD))?;
    ensure!(
        record.source == source_hash(&metadata)?,
        "{OBJECT} was compiled from another source: run `cargo xtask ebpf` and commit {OBJECT} \
         and {RECORD}"
    );
    let checked_in =
        fs::read(root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
    ensure!(
        record.object == object_hash(&checked_in),
        "{OBJECT} and {RECORD} are not of one run of `cargo xtask ebpf`"
    );
    let object = compile(&metadata)?;
    let here = Toolchain::find()?;
    if object == checked_in {
        say(&format!("{OBJECT} is what its source compiles to, byte by byte"));
        return Ok(Fresh { checked_in: None });
    }
    if here == record.toolchain {
        bail!("{OBJECT} is not what its source compiles to with {here}: run `cargo xtask ebpf`");
    }
    say(&format!("{OBJECT} was made by {}; bytes differ with {here}", record.toolchain));
    write(&root.join(OBJECT), &object)?;
    Ok(Fresh { checked_in: Some(checked_in) })
}

/// The fresh object lies where the checked-in one belongs, until this is dropped.
pub(crate) struct Fresh {
    checked_in: Option<Vec<u8>>,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let Some(object) = self.checked_in.take() else { return };
        if let Err(error) = write(&workspace::root().join(OBJECT), &object) {
            say(&format!("error: {OBJECT} is not the checked-in one any more: {error:#}"));
        }
    }
}

/// Lints the programs for the target that they are for, by the compiler that compiles them.
pub(crate) fn clippy() -> Result<()> {
    let metadata = workspace::metadata()?;
    let mut clippy = crate::process::command(crate::tools::CLIPPY);
    environment(&mut clippy, &metadata)?;
    run(clippy.args(["clippy", "--locked", "--package", "shunt-ebpf", "--target", TARGET]))
}

fn compile(metadata: &Metadata) -> Result<Vec<u8>> {
    let mut build = cargo();
    let target = environment(&mut build, metadata)?;
    run(build.args(["build", "--locked", "--release", "--package", "shunt-ebpf"]).args([
        "--bin",
        "shunt-ebpf",
        "--target",
        TARGET,
    ]))?;
    let linked = target.join(TARGET).join("release/shunt-ebpf");
    let object = linked.with_extension("o");
    // The linker makes BTF from debug information, four times as long, which nobody reads then.
    run(crate::process::command(&llvm_tool("llvm-strip")?)
        .arg("--strip-debug")
        .arg(&linked)
        .arg("-o")
        .arg(&object))?;
    fs::read(&object).with_context(|| format!("cannot read {}", object.display()))
}

/// Sets what makes cargo compile for BPF, in a target folder of its own, which is returned.
///
/// The bytes must not depend on where they are made, hence the remapped paths, nor on how the
/// workspace builds for the host, hence the profile.
fn environment(command: &mut Command, metadata: &Metadata) -> Result<PathBuf> {
    let root = workspace::root();
    let target = metadata.target_directory.as_std_path().join("ebpf");
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut flags = vec![
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // The verifier of 6.1 refuses an edge back into a loop ("back-edge from insn 48 to
        // 49") that is no jump: LLVM lays a loop's step before its head where it may.
        "-Clink-arg=--llvm-args=-disable-block-placement".to_owned(),
        format!("--remap-path-prefix={}=shunt", root.display()),
    ];
    flags.extend(cargo_home.map(|home| format!("--remap-path-prefix={}=cargo", home.display())));
    command
        .current_dir(&root)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", path()?)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env_remove("RUSTC_WRAPPER");
    Ok(target)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
