//! Every step of CI as one local command: `cargo xtask --help`.

mod bench;
mod ebpf;
mod kernels;
mod kubernetes;
mod lint;
mod process;
mod record;
mod setup;
mod test;
mod tools;
mod workspace;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

/// Every step of CI as one local command.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Install what compiles the eBPF programs and what checks licences, and build the API server
    /// that tests run against; skips what is there.
    Setup,
    /// Compile the eBPF programs into ebpf/object/.
    Ebpf {
        /// Change nothing, and fail if the checked-in object is not what its source compiles to.
        #[arg(long)]
        check: bool,
    },
    /// Check format, clippy on host and BPF, and the rules of the house.
    Lint,
    /// Run everything that CI runs: set-up, eBPF, lints, tests, examples, docs, licences, and the
    /// suites on booted kernels.
    Test,
    /// Build the kernels that are booted for tests, and run something on them.
    Kernels {
        /// Only this kernel, for COMMAND.
        #[arg(long, value_parser = kernels::Kernel::named)]
        kernel: Option<&'static kernels::Kernel>,
        /// Run every suite on its kernels.
        #[arg(long, conflicts_with_all = ["kernel", "command"])]
        suites: bool,
        /// COMMAND is taken for stuck after this many seconds.
        #[arg(long, value_name = "SECONDS", requires = "command")]
        limit: Option<u64>,
        /// Run this on each of the kernels, instead of nothing.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Measure, and print the figures as a table.
    Bench {
        /// Passed on to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse().step {
        Step::Setup => setup::install().and_then(|()| kubernetes::build()),
        Step::Ebpf { check: false } => ebpf::update(),
        Step::Ebpf { check: true } => ebpf::check(),
        Step::Lint => lint::run(),
        Step::Test => test::run(),
        Step::Kernels { suites: true, .. } => {
            kernels::build().and_then(|()| kernels::run(kernels::Scope::All))
        }
        Step::Kernels { kernel, suites: false, limit, command } => {
            kernels::enter(kernel, &command, limit.map(Duration::from_secs))
        }
        Step::Bench { args } => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
