//! Without the connect-time backend there are no programs, and no events.

use anyhow::{Result, bail};

use crate::args::{EventsArgs, Place};

/// Says which feature is missing.
pub(crate) async fn run(_args: &EventsArgs, _place: &Place) -> Result<()> {
    bail!("backend \"connect\" is compiled out: build with --features backend-connect")
}
