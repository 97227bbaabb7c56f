//! Which program to start as a probe process.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

/// The variable that makes [`main_if_asked`] answer.
const ASKED: &str = "SHUNT_PROBE_PROCESS";

/// The program that a world starts for each pod, and how to call it.
#[derive(Clone, Debug)]
pub struct ProbeProgram {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl ProbeProgram {
    /// A program that calls [`super::run`], or [`main_if_asked`], when started with `arguments`.
    pub fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self { program: program.into(), arguments: arguments.into_iter().map(Into::into).collect() }
    }

    /// This very program, started with `arguments`: a hidden subcommand.
    ///
    /// # Errors
    ///
    /// Fails where the path of the running program cannot be found.
    pub fn this_with<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        // The link and not what it points to: the file may have been replaced by a newer build.
        let program = env::current_exe().context("cannot find the running program")?;
        Ok(Self::new(program, arguments))
    }

    /// This very test binary, started for its one test `name`, which calls [`main_if_asked`].
    ///
    /// # Errors
    ///
    /// As [`Self::this_with`].
    pub fn this_test(name: &str) -> Result<Self> {
        Self::this_with([name, "--exact", "--nocapture", "--test-threads=1"])
    }

    /// The command, with everything but its standard input.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env(ASKED, "1").stdout(Stdio::null());
        command
    }
}

/// Runs as a probe process if a world started this program as one, and says whether it did.
///
/// # Errors
///
/// Fails where standard input is not a world's socket.
pub fn main_if_asked() -> Result<bool> {
    let asked = env::var_os(ASKED).is_some();
    if asked {
        super::run()?;
    }
    Ok(asked)
}
