//! Runs one behaviour: a process, a world in it, a backend in that.

use std::{
    env,
    fs::File,
    io::Read as _,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{MakeBackend, Stage};
use crate::{
    probe::ProbeProgram,
    tier::{may_run_privileged, skip},
    until,
    world::World,
};

/// Set in the process of one behaviour.
const INSIDE: &str = "SHUNT_CONFORMANCE";

/// No behaviour takes this long; the churn test of full length is told so in the environment.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the behaviour of the test called `test` (with its crate) in a process of its own.
///
/// # Panics
///
/// Panics where the behaviour is not as it should be.
pub fn run(test: &str, name: &str, make: MakeBackend, check: fn(&mut Stage<'_>) -> Result<()>) {
    let result = if env::var_os(INSIDE).is_some() {
        play(test, name, make, check)
    } else if may_run_privileged() {
        start(test)
    } else {
        Ok(())
    };
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

/// Starts this test binary again for one test alone.
#[expect(clippy::print_stderr, reason = "CI counts the lines that say SKIP")]
fn start(test: &str) -> Result<()> {
    let mut output = tempfile::tempfile().context("cannot make a file for the output")?;
    let clone = |file: &File| file.try_clone().context("cannot duplicate the output");
    let mut child = Command::new(env::current_exe().context("cannot find the test binary")?)
        .args([in_crate(test), "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stdout(clone(&output)?)
        .stderr(clone(&output)?)
        .spawn()
        .context("cannot start the test binary")?;
    let status = until("the behaviour to end", LIMIT, || child.try_wait().transpose());
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let mut text = String::new();
    std::io::Seek::rewind(&mut output).context("cannot rewind the output")?;
    output.read_to_string(&mut text).context("cannot read the output")?;
    match status {
        Ok(Ok(status)) if status.success() => {
            for line in text.lines().filter(|line| line.starts_with("SKIP")) {
                eprintln!("{line}");
            }
            Ok(())
        }
        other => {
            World::sweep();
            bail!("{other:?}; the process said:\n{text}")
        }
    }
}

/// The name of a test without its crate.
pub(super) fn in_crate(test: &str) -> &str {
    test.split_once("::").map_or(test, |(_, rest)| rest)
}

/// In the process of the behaviour.
fn play(
    test: &str,
    name: &str,
    make: MakeBackend,
    check: fn(&mut Stage<'_>) -> Result<()>,
) -> Result<()> {
    let test = in_crate(test);
    let sibling = |name: &str| match test.rsplit_once("::") {
        Some((module, _)) => format!("{module}::{name}"),
        None => name.to_owned(),
    };
    let world = World::standard(&ProbeProgram::this_test(&sibling("probe_process"))?)?;
    let membership = world.join_host()?;
    let result = world.host().run(|| {
        let mut stage = Stage::new(&world, name, make, sibling("agent_process"))?;
        if let Some(reason) = stage.cannot_work() {
            skip(&reason);
            return Ok(());
        }
        check(&mut stage)
    });
    drop(membership);
    result?
}
