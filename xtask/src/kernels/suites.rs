//! What runs on which kernels: the tests whose answer depends on the kernel.

use std::{
    io::BufReader,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::{Artifact, Message, TargetKind};

use super::{
    boot::{self, Job},
    build::{build, cached},
    kernel::{CGROUP_BPF, KERNELS, Kernel, PLAIN},
};
use crate::{
    process::{cargo, say},
    workspace,
};

/// A kernel that is this long at one suite is stuck.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// What tests find in their environment where ours does not say otherwise. A kernel has one
/// processor and no compiler for BPF programs, and each system call is a stop of one process and
/// a start of another: tests get the time that this takes, and the longest does less.
const SLOWLY: [(&str, &str); 3] =
    [("SHUNT_PATIENCE", "10"), ("SHUNT_CHURN", "short"), ("RUST_TEST_THREADS", "4")];

/// What else of our environment tests find in theirs.
const PASSED_ON: [&str; 3] = ["REQUIRE_ALL", "RUST_BACKTRACE", "RUST_LOG"];

/// Something that runs on some of the kernels.
struct Suite {
    /// The package and its target.
    target: (&'static str, &'static str),
    check: Check,
    kernels: &'static [&'static Kernel],
}

enum Check {
    /// A test binary: all of it must pass.
    Tests,
    /// A program with arguments: it must end with this status, and its output must have this.
    Says(&'static [&'static str], u8, &'static str),
}

static SUITES: [Suite; 5] = [
    Suite {
        target: ("shunt", "shunt"),
        check: Check::Says(&["doctor"], 0, "Connect-time balancing works here"),
        kernels: &[&CGROUP_BPF],
    },
    Suite {
        target: ("shunt", "shunt"),
        check: Check::Says(&["doctor"], 1, "Connect-time balancing cannot work here: cgroup/"),
        kernels: &[&PLAIN],
    },
    Suite { target: ("shunt-backends", "connect"), check: Check::Tests, kernels: &[&CGROUP_BPF] },
    Suite { target: ("shunt-harness", "connect"), check: Check::Tests, kernels: &[&CGROUP_BPF] },
    Suite { target: ("shunt", "shunt"), check: Check::Tests, kernels: &[&CGROUP_BPF] },
];

/// Runs every suite on its kernels, which must have been built. Goes on after a failure and tells
/// them all.
pub(crate) fn run() -> Result<()> {
    let built = executables()?;
    let mut failed = Vec::new();
    for kernel in KERNELS {
        for suite in SUITES.iter().filter(|suite| suite.kernels.contains(&kernel)) {
            let start = Instant::now();
            let name = format!("{} on {}", suite.name(), kernel.name);
            say(&format!("+ {name}"));
            match suite.run(kernel, &built) {
                Ok(()) => {
                    say(&format!("kernels: {name}: passed in {} s", start.elapsed().as_secs()))
                }
                Err(error) => {
                    say(&format!("kernels: {name}: {error:#}"));
                    failed.push(name);
                }
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
    Ok(())
}

/// Builds what is not built, and runs a command of someone at the keyboard on one kernel or on
/// all; it must end well, and within `limit`.
pub(crate) fn enter(
    only: Option<&'static Kernel>,
    command: &[String],
    limit: Option<Duration>,
) -> Result<()> {
    build()?;
    if command.is_empty() {
        return Ok(());
    }
    let folder = std::env::current_dir().context("there is no current folder")?;
    for kernel in KERNELS.into_iter().filter(|kernel| only.is_none_or(|only| only == *kernel)) {
        let outcome = job(kernel, command.to_vec(), folder.clone(), limit)?;
        ensure!(outcome.status == 0, "exit status {} on {}", outcome.status, kernel.name);
    }
    Ok(())
}

fn job(
    kernel: &Kernel,
    command: Vec<String>,
    folder: PathBuf,
    limit: Option<Duration>,
) -> Result<boot::Outcome> {
    let program = cached(kernel)?.with_context(|| format!("{} is not built", kernel.name))?;
    let passed_on = PASSED_ON.map(|name| (name, std::env::var(name).ok()));
    let slowly = SLOWLY
        .map(|(name, value)| (name, std::env::var(name).ok().or_else(|| Some(value.to_owned()))));
    let environment = passed_on
        .into_iter()
        .chain(slowly)
        .chain([("HOME", Some("/root".to_owned()))])
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    boot::run(&program, &Job { command, folder, environment, limit: limit.unwrap_or(LIMIT) })
}

impl Suite {
    fn name(&self) -> String {
        let (package, target) = self.target;
        match &self.check {
            Check::Tests => format!("tests {target} of {package}"),
            Check::Says(args, ..) => format!("{target} {}", args.join(" ")),
        }
    }

    fn run(&self, kernel: &Kernel, built: &[Executable]) -> Result<()> {
        let is_test = matches!(self.check, Check::Tests);
        let executable = built
            .iter()
            .find(|built| built.target() == self.target && built.is_test() == is_test)
            .context("cargo has built no such program")?;
        let mut command = vec![executable.path.clone()];
        if let Check::Says(args, ..) = self.check {
            command.extend(args.iter().map(|arg| (*arg).to_owned()));
        }
        // Where cargo runs tests too.
        let outcome = job(kernel, command, executable.folder.clone(), None)?;
        match self.check {
            Check::Tests if outcome.status != 0 => bail!("exit status {}", outcome.status),
            Check::Tests => Ok(()),
            Check::Says(_, status, text) => {
                ensure!(outcome.status == status, "exit status {}, not {status}", outcome.status);
                ensure!(outcome.output.contains(text), "the output does not say {text:?}");
                Ok(())
            }
        }
    }
}

/// A program that cargo built.
struct Executable {
    package: String,
    artifact: Artifact,
    path: String,
    folder: PathBuf,
}

impl Executable {
    fn target(&self) -> (&str, &str) {
        (&self.package, &self.artifact.target.name)
    }

    /// Whether these are tests of the folder `tests`; the unit tests of a binary have its name.
    fn is_test(&self) -> bool {
        self.artifact.target.kind.contains(&TargetKind::Test)
    }
}

/// Everything that cargo builds for the tests, with the place of each.
fn executables() -> Result<Vec<Executable>> {
    let metadata = workspace::metadata()?;
    let mut build = cargo()
        .args(["test", "--locked", "--workspace", "--no-run", "--quiet"])
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let stdout = build.stdout.take().context("cargo has no output")?;
    let mut found = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        let Message::CompilerArtifact(artifact) = message.context("cannot read cargo's output")?
        else {
            continue;
        };
        let unit_tests = artifact.profile.test && !artifact.target.kind.contains(&TargetKind::Test);
        let Some(package) =
            metadata.workspace_packages().into_iter().find(|p| p.id == artifact.package_id)
        else {
            continue;
        };
        let (Some(path), false) = (&artifact.executable, unit_tests) else { continue };
        let folder = package.manifest_path.parent().context("a manifest lies in a folder")?;
        found.push(Executable {
            package: package.name.to_string(),
            path: path.to_string(),
            folder: folder.into(),
            artifact,
        });
    }
    ensure!(
        build.wait().context("cannot wait for cargo")?.success(),
        "cargo cannot build the tests"
    );
    Ok(found)
}
