//! `shunt demo`: Shunt at work, in a small world of its own.

#[cfg(not(feature = "demo"))]
mod disabled;
#[cfg(feature = "demo")]
mod enabled;

#[cfg(not(feature = "demo"))]
pub(crate) use self::disabled::{probe_process, run};
#[cfg(feature = "demo")]
pub(crate) use self::enabled::{probe_process, run};

/// `shunt demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Leave the world up, with the agent running, and print how to look around.
    #[arg(long, conflicts_with = "remove")]
    keep: bool,
    /// Remove the worlds that earlier demos left up.
    #[arg(long)]
    remove: bool,
}
