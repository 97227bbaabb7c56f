//! Compiling the kernels, once for each configuration and each version of the source.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use super::kernel::{KERNELS, Kernel, SOURCE_PACKAGE};
use crate::{
    process::{command, output, run, say, succeeds},
    setup, tools,
};

/// What compiles a kernel, beside its source.
const COMPILERS: [&str; 10] = [
    SOURCE_PACKAGE,
    "gcc",
    "libc6-dev",
    "make",
    "flex",
    "bison",
    "bc",
    "libelf-dev",
    "xz-utils",
    "tar",
];

/// What the first process in a kernel uses, and the tests in there.
const TOOLS: [&str; 2] = ["iproute2", "mount"];

/// Debian's compressed tree.
const TARBALL: &str = "/usr/src/linux-source-6.1.tar.xz";

/// Builds the kernels that are not cached. Those that are cost nothing.
pub(crate) fn build() -> Result<()> {
    setup::packages(&TOOLS)?;
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Two builds at once would write one tree; the second finds what the first has made.
    let lock = folder.join("lock");
    let file = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
    if all_cached()? {
        say(&format!("kernels: {} are in {}", names(), folder.display()));
        return Ok(());
    }
    let start = Instant::now();
    setup::packages(&COMPILERS)?;
    let version = source_version().with_context(|| format!("{SOURCE_PACKAGE} has no version"))?;
    let tree = Tree::unpack(&folder, &version)?;
    for kernel in KERNELS {
        if cached(kernel)?.is_none() {
            tree.compile(kernel, &folder.join(format!("{}-{version}", kernel.identity())))?;
        }
    }
    tree.remove()?;
    say(&format!("kernels: {} were built in {} s", names(), start.elapsed().as_secs()));
    Ok(())
}

/// What keeps suites from running here that need nothing built, if anything.
pub(crate) fn missing() -> Result<Option<&'static str>> {
    if !succeeds(command("unshare").args(["--pid", "--fork", "true"])) {
        return Ok(Some("booting a kernel takes a pid namespace, and that root"));
    }
    let advice = "they are not built; `cargo xtask kernels` builds them, which takes ten minutes \
                  and, until it is done, two gigabytes";
    Ok((!all_cached()?).then_some(advice))
}

fn all_cached() -> Result<bool> {
    for kernel in KERNELS {
        if cached(kernel)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The program that is this kernel, if it was built from this configuration and the source that
/// is installed. Where no source is, as with a cache that came from another machine, any will do.
pub(super) fn cached(kernel: &Kernel) -> Result<Option<PathBuf>> {
    let identity = kernel.identity();
    let wanted = source_version().map(|version| format!("{identity}-{version}"));
    let Ok(entries) = fs::read_dir(folder()?) else { return Ok(None) };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            wanted.as_ref().map_or_else(|| name.starts_with(&identity), |wanted| *wanted == name)
        })
        .map(|path| path.join("linux"))
        .filter(|program| program.exists())
        .collect();
    found.sort();
    Ok(found.pop())
}

/// Where everything of the kernels is.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(tools::folder()?.join("kernels"))
}

fn names() -> String {
    KERNELS.map(|kernel| kernel.name).join(" and ")
}

/// The version of the source that is installed.
fn source_version() -> Option<String> {
    let query = ["-W", "-f", "${db:Status-Status} ${Version}", SOURCE_PACKAGE];
    let found = command("dpkg-query").args(query).output().ok()?;
    let text = String::from_utf8(found.stdout).ok()?;
    text.strip_prefix("installed ").map(str::to_owned)
}

/// An unpacked source tree and a build in it. What a build that was broken off has compiled is
/// there for the next one.
struct Tree {
    folder: PathBuf,
    source: PathBuf,
    build: PathBuf,
}

impl Tree {
    fn unpack(folder: &Path, version: &str) -> Result<Self> {
        let folder = folder.join(format!("tree-{version}"));
        let (source, build) = (folder.join("source"), folder.join("build"));
        if !source.exists() {
            let part = folder.join("part");
            if part.exists() {
                fs::remove_dir_all(&part)
                    .with_context(|| format!("cannot remove {}", part.display()))?;
            }
            for new in [&part, &build] {
                fs::create_dir_all(new)
                    .with_context(|| format!("cannot make {}", new.display()))?;
            }
            let unpack = ["--extract", "--strip-components=1", "--file", TARBALL, "--directory"];
            run(command("tar").args(unpack).arg(&part))?;
            fs::rename(&part, &source)
                .with_context(|| format!("cannot rename {}", part.display()))?;
        }
        Ok(Self { folder, source, build })
    }

    /// Builds one kernel into `result`, which then appears as a whole.
    fn compile(&self, kernel: &Kernel, result: &Path) -> Result<()> {
        let start = Instant::now();
        let defaults = self.source.join("arch/um/configs/x86_64_defconfig");
        let defaults = fs::read_to_string(&defaults)
            .with_context(|| format!("cannot read {}", defaults.display()))?;
        let config = self.build.join(".config");
        fs::write(&config, kernel.configuration(&defaults))
            .with_context(|| format!("cannot write {}", config.display()))?;
        output(self.make().arg("olddefconfig"))?;
        let granted = fs::read_to_string(&config)
            .with_context(|| format!("cannot read {}", config.display()))?;
        let refused = kernel.refused(&granted);
        ensure!(refused.is_empty(), "the kernel's tree does not grant {}", refused.join(", "));

        say(&format!("kernels: compiling {}; this takes minutes", kernel.name));
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        run(self.make().args(["--silent", &format!("--jobs={jobs}"), "linux"]))?;
        self.install(result)?;
        say(&format!("kernels: {} was built in {} s", kernel.name, start.elapsed().as_secs()));
        Ok(())
    }

    /// Below everything else that runs here: it is long, and nobody waits at a keyboard for it.
    fn make(&self) -> Command {
        let mut make = command("nice");
        make.args(["-n", "15", "make", "ARCH=um", "--directory"]).arg(&self.source);
        make.arg(format!("O={}", self.build.display()));
        // What cargo tells a make below it is about cargo's own jobs.
        make.env_remove("MAKEFLAGS").env_remove("CARGO_MAKEFLAGS");
        make
    }

    fn install(&self, result: &Path) -> Result<()> {
        let part = self.folder.join("result");
        fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        for (from, to) in [("linux", "linux"), (".config", "config")] {
            fs::copy(self.build.join(from), part.join(to))
                .with_context(|| format!("cannot copy {from} to {}", part.display()))?;
        }
        fs::rename(&part, result).with_context(|| format!("cannot make {}", result.display()))
    }

    /// A tree and what is compiled in it are two gigabytes, and nobody needs them any more.
    fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}
