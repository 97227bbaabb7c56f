//! What runs on which kernels: the tests whose answer depends on the kernel.

use std::{
    io::BufReader,
    path::PathBuf,
    process::Stdio,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
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
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// What tests find in their environment where ours does not say otherwise. A kernel has one
/// processor and no compiler for BPF programs, and each system call is a stop of one process and
/// a start of another: tests get the time that this takes, and the longest does less. What a test
/// says of its failure is said at once, so that it is seen although another one is stuck.
const SLOWLY: [(&str, &str); 4] = [
    ("SHUNT_PATIENCE", "5"),
    ("SHUNT_CHURN", "short"),
    ("RUST_TEST_THREADS", "4"),
    ("RUST_TEST_NOCAPTURE", "1"),
];

/// What else of our environment tests find in theirs.
const PASSED_ON: [&str; 3] = ["REQUIRE_ALL", "RUST_BACKTRACE", "RUST_LOG"];

/// Which suites are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of `cargo xtask test`: each dataplane on the kernel that decides about it.
    Test,
    /// Every suite, which takes three times as long.
    All,
}

/// Something that runs on some of the kernels.
struct Suite {
    /// The narrowest scope that it is in.
    scope: Scope,
    /// The package and its target.
    target: (&'static str, &'static str),
    check: Check,
    kernels: &'static [&'static Kernel],
}

enum Check {
    /// A test binary, with arguments that choose among its tests: there must be some, and all must
    /// pass.
    Tests(&'static [&'static str]),
    /// A program with arguments: it must end with this status, and its output must have this.
    Says(&'static [&'static str], u8, &'static str),
}

const EVERY_TEST: Check = Check::Tests(&[]);

/// The longest first: what is left at the end is short.
static SUITES: [Suite; 9] = [
    Suite {
        scope: Scope::All,
        target: ("shunt-harness", "both"),
        check: EVERY_TEST,
        kernels: &[&CGROUP_BPF],
    },
    Suite {
        scope: Scope::All,
        target: ("shunt-harness", "nftables"),
        check: EVERY_TEST,
        kernels: &[&CGROUP_BPF],
    },
    Suite {
        scope: Scope::Test,
        target: ("shunt-harness", "nftables"),
        check: EVERY_TEST,
        kernels: &[&PLAIN],
    },
    Suite {
        scope: Scope::Test,
        target: ("shunt-harness", "connect"),
        check: EVERY_TEST,
        kernels: &[&CGROUP_BPF],
    },
    Suite {
        scope: Scope::All,
        target: ("shunt", "shunt"),
        check: EVERY_TEST,
        kernels: &[&CGROUP_BPF],
    },
    Suite {
        scope: Scope::Test,
        target: ("shunt", "shunt"),
        // What happens without programs on cgroups, and what takes none.
        check: Check::Tests(&["--include-ignored", "auto_falls_back", "the_packet_path_alone"]),
        kernels: &[&PLAIN],
    },
    Suite {
        scope: Scope::Test,
        target: ("shunt-backends", "connect"),
        check: EVERY_TEST,
        kernels: &[&CGROUP_BPF],
    },
    Suite {
        scope: Scope::Test,
        target: ("shunt", "shunt"),
        check: Check::Says(&["doctor"], 0, "Connect-time balancing works here"),
        kernels: &[&CGROUP_BPF],
    },
    Suite {
        scope: Scope::Test,
        target: ("shunt", "shunt"),
        check: Check::Says(&["doctor"], 1, "Connect-time balancing cannot work here: cgroup/"),
        kernels: &[&PLAIN],
    },
];

/// Runs the suites of a scope on their kernels, which must have been built: as many at once as this machine
/// has processors, of which a kernel has one. Goes on after a failure and tells them all.
pub(crate) fn run(scope: Scope) -> Result<()> {
    let built = executables()?;
    let on_kernels = |suite: &'static Suite| suite.kernels.iter().map(move |on| (suite, *on));
    let chosen = SUITES.iter().filter(|suite| scope == Scope::All || suite.scope == scope);
    let waiting: Vec<_> = chosen.flat_map(on_kernels).rev().collect();
    let waiting = Mutex::new(waiting);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some((suite, kernel)) = next() {
            let Err(error) = suite.run(kernel, &built) else { continue };
            let name = format!("{} on {}", suite.name(), kernel.name);
            say(&format!("kernels: {name}: {error:#}"));
            failed.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
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
        let job = Job {
            command: command.to_vec(),
            folder: folder.clone(),
            environment: environment(),
            limit: limit.unwrap_or(LIMIT),
            prefix: String::new(),
        };
        let outcome = boot::run(&program(kernel)?, &job)?;
        ensure!(outcome.status == 0, "exit status {} on {}", outcome.status, kernel.name);
    }
    Ok(())
}

fn program(kernel: &Kernel) -> Result<PathBuf> {
    cached(kernel)?.with_context(|| format!("{} is not built", kernel.name))
}

/// What every job finds in its environment.
fn environment() -> Vec<(String, String)> {
    let ours = |name: &str| std::env::var(name).ok();
    let passed_on = PASSED_ON.map(|name| (name, ours(name)));
    let slowly = SLOWLY.map(|(name, value)| (name, ours(name).or_else(|| Some(value.to_owned()))));
    passed_on
        .into_iter()
        .chain(slowly)
        .chain([("HOME", Some("/root".to_owned()))])
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

impl Suite {
    fn name(&self) -> String {
        let (package, target) = self.target;
        match &self.check {
            Check::Tests(args) => {
                let args: String = args.iter().map(|arg| format!(" {arg}")).collect();
                format!("tests {target} of {package}{args}")
            }
            Check::Says(args, ..) => format!("{target} {}", args.join(" ")),
        }
    }

    fn run(&self, kernel: &Kernel, built: &[Executable]) -> Result<()> {
        let (is_test, args) = match self.check {
            Check::Tests(args) => (true, args),
            Check::Says(args, ..) => (false, args),
        };
        let executable = built
            .iter()
            .find(|built| built.target() == self.target && built.is_test() == is_test)
            .context("cargo has built no such program")?;
        let words = std::iter::once(executable.path.as_str()).chain(args.iter().copied());
        let mut environment = environment();
        // These kernels were made for these tests.
        environment.push(("REQUIRE_ALL".to_owned(), "1".to_owned()));
        let job = Job {
            command: words.map(str::to_owned).collect(),
            // Where cargo runs tests too.
            folder: executable.folder.clone(),
            environment,
            limit: LIMIT,
            prefix: format!("{} {}: ", kernel.name, self.target.1),
        };
        let name = format!("{} on {}", self.name(), kernel.name);
        say(&format!("+ {name}"));
        let start = Instant::now();
        self.judge(&boot::run(&program(kernel)?, &job)?)?;
        say(&format!("kernels: {name}: passed in {} s", start.elapsed().as_secs()));
        Ok(())
    }

    fn judge(&self, outcome: &boot::Outcome) -> Result<()> {
        let boot::Outcome { status, output } = outcome;
        let wanted = match self.check {
            Check::Tests(_) => 0,
            Check::Says(_, status, _) => status,
        };
        ensure!(*status == wanted, "exit status {status}, not {wanted}");
        match self.check {
            Check::Tests(_) => {
                let none = |line: &str| line.contains("test result:") && line.contains(" 0 passed");
                ensure!(!output.lines().any(none), "there are no such tests");
            }
            Check::Says(_, _, text) => {
                ensure!(output.contains(text), "the output does not say {text:?}");
            }
        }
        Ok(())
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
