//! Running other programs.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// The cargo that runs this, with the environment that it was itself given.
pub(crate) fn cargo() -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
}

/// A program, without what `cargo run` put into the environment: the toolchain's libraries are
/// not those that another compiler was linked with.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("LD_LIBRARY_PATH").stdin(Stdio::null());
    command
}

/// Says what is run, runs it with its output going where ours goes, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let text = describe(command);
    say(&format!("+ {text}"));
    let status = command.status().with_context(|| format!("cannot run {text}"))?;
    ensure!(status.success(), "{text}: {status}");
    Ok(())
}

/// Runs quietly and returns what the program printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let text = describe(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {text}"))?;
    ensure!(output.status.success(), "{text}: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{text}: output is not UTF-8"))
}

/// Whether the program runs and ends well; silent.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Prints a line to stderr. That nobody listens is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether a step that cannot run here is a failure.
pub(crate) fn require_all() -> bool {
    std::env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1")
}

fn describe(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    command.get_args().fold(name, |text, arg| text + " " + &arg.to_string_lossy())
}
