//! `shunt cleanup`: away with everything that an agent left in the kernel.

use anyhow::{Context as _, Result};

use super::connect;
use crate::{args::Place, output::print};

/// Removes, and says what was removed.
pub(crate) async fn run(place: &Place) -> Result<()> {
    let removed = connect(place)?.cleanup().await.context("clean-up is not complete")?;
    if removed.is_empty() {
        return print("nothing to remove\n");
    }
    let lines: Vec<String> = removed.iter().map(|what| format!("removed {what}\n")).collect();
    print(&lines.concat())
}
