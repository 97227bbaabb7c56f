//! `shunt cleanup`: away with everything that an agent left in the kernel.

use anyhow::{Context as _, Result};

use super::backends;
use crate::{args::Place, output::print};

/// Removes, and says what was removed. What one dataplane cannot remove keeps no other from being
/// removed; the first error is then returned.
pub(crate) async fn run(place: &Place) -> Result<()> {
    let (mut lines, mut result) = (Vec::new(), Ok(()));
    for (name, mut backend) in backends(place)? {
        match backend.cleanup().await {
            Ok(removed) => lines.extend(removed.iter().map(|what| format!("removed {what}\n"))),
            Err(error) if result.is_ok() => {
                result = Err(error).with_context(|| format!("clean-up of {name} is not complete"));
            }
            Err(_) => {}
        }
    }
    if lines.is_empty() && result.is_ok() {
        lines.push("nothing to remove\n".to_owned());
    }
    print(&lines.concat())?;
    result
}
