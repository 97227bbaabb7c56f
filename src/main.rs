//! Shunt's node agent and its commands.

mod args;
mod commands;
mod http;
mod log;
mod output;
mod run;

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, FromArgMatches as _};
use shunt_plugins::Registry;

use crate::args::{Args, Command};

/// One heap for all threads. The C library's has one for each that allocates, and what one of them
/// has freed the others cannot use: with 10,000 Services that was a third of the agent's memory.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let args = parse();
    log::start(&args.log);
    execute(&args).unwrap_or_else(|error| {
        // Nobody may be listening, and there is no other way to say it.
        let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Parses the command line. Its help names the sources that this binary has.
fn parse() -> Args {
    let sources = run::source_names(&Registry::builtin());
    let command = Args::command().mut_arg("source", |source| {
        source.help(format!("Where Services come from: {sources}; repeatable"))
    });
    Args::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn execute(args: &Args) -> Result<ExitCode> {
    // The engine is one task; a second worker lets sources parse beside it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        match &args.command {
            None => run::run(args).await?,
            Some(Command::Get(get)) => commands::get::run(get, &args.place).await?,
            Some(Command::Events(events)) => commands::events::run(events, &args.place).await?,
            Some(Command::Cleanup) => commands::cleanup::run(&args.place).await?,
            Some(Command::Doctor) => {
                if !commands::doctor::run(&args.place).await? {
                    return Ok(ExitCode::FAILURE);
                }
            }
            Some(Command::Demo(demo)) => commands::demo::run(demo).await?,
            Some(Command::ProbeProcess) => commands::demo::probe_process()?,
        }
        Ok(ExitCode::SUCCESS)
    });
    // A backend that hangs in the kernel must not keep the agent from ending.
    runtime.shutdown_background();
    ended
}
