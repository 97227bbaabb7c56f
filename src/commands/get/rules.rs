//! `shunt get rules`: what the packet path does with a packet, in words.

use anyhow::{Result, bail};

use crate::args::Format;

pub(super) async fn run(_format: Format) -> Result<()> {
    bail!("to come")
}
