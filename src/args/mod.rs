//! The command line. Flags that kube-proxy has too are spelled as it spells them.

mod agent;
mod api;
mod configz;
mod http;
mod packets;
mod value;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use self::agent::AgentArgs;

/// The command line: one screen of help, so no text has more than its one paragraph.
#[derive(Debug, Parser)]
#[command(
    name = "shunt",
    version,
    about = "A Kubernetes node agent that balances Services at the application's own connect().\n\
             Without a command it runs the agent until SIGTERM or SIGINT; connections go on, and \
             the next agent takes over.",
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) log: Log,
}

/// What to do instead of running the agent.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the kernel has: Services, endpoints or the rules for packets.
    Get(GetArgs),
    /// Try every facility of the kernel that Shunt uses; exit status 1 if connect() cannot be balanced.
    Doctor,
    /// Show what the programs decide, as they decide it, until SIGINT.
    Events(EventsArgs),
    /// Remove everything that an agent left in the kernel.
    Cleanup,
    /// Show Shunt at work in a small world of its own; needs root, takes some seconds.
    Demo(crate::commands::demo::DemoArgs),
    /// The process of a pod in the demo's world.
    #[command(hide = true)]
    ProbeProcess,
}

/// Which cgroup, and where in bpffs: all that tells one instance from another.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Place")]
pub(crate) struct Place {
    /// The cgroup (v2) that is served [default: the root of the cgroup namespace].
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Where the state is pinned, in a bpffs.
    #[arg(long, global = true, value_name = "PATH", default_value = "/sys/fs/bpf/shunt")]
    pub(crate) pin_path: PathBuf,
}

/// What is said on standard error, and how.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct Log {
    /// Verbosity, as kube-proxy's: 4 adds what developers read, 6 every step.
    #[arg(short = 'v', long = "v", global = true, value_name = "N", default_value_t = 0)]
    pub(crate) verbosity: u8,
    /// Form of the log lines: text or json.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub(crate) logging_format: LogFormat,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `shunt get`.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    #[command(subcommand)]
    pub(crate) what: What,
    /// Form of the output: table or json.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    pub(crate) output: Format,
}

/// What to show.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Every address at which a Service is served here.
    #[command(visible_aliases = ["service", "svc"])]
    Services,
    /// Where connections go.
    #[command(visible_aliases = ["endpoint", "ep"])]
    Endpoints {
        /// Only those of this Service: NAME or NAMESPACE/NAME.
        service: Option<String>,
    },
    /// What the packet path does with a packet, in words.
    #[command(visible_alias = "rule")]
    Rules,
}

/// `shunt events`.
#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// Which: errors, or all.
    #[arg(long, value_name = "LEVEL", default_value = "all", hide_possible_values = true)]
    pub(crate) level: Level,
    /// Only those of this Service.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) service: Option<String>,
}

/// Which events are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// What went wrong.
    Errors,
    /// Every decision about a Service.
    All,
}

/// Form of what `get` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// One JSON array.
    Json,
}
