//! The demo, compiled out.

use anyhow::{Result, bail};

use super::DemoArgs;

/// Says what would bring it.
pub(crate) async fn run(_args: &DemoArgs) -> Result<()> {
    probe_process()
}

/// As [`run`].
pub(crate) fn probe_process() -> Result<()> {
    bail!("the demo is compiled out: build with --features demo")
}
