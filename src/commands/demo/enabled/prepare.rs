//! What the demo needs from the machine.

use anyhow::{Result, ensure};
use shunt_core::LbBackend;
use shunt_harness::tier::missing_privilege;
use tokio::runtime::Handle;

/// Fails with what is missing, before anything is made.
pub(super) fn privileges() -> Result<()> {
    let missing = missing_privilege();
    ensure!(
        missing.is_none(),
        "the demo makes network namespaces and loads eBPF programs, and cannot: {}; run it as root",
        missing.unwrap_or_default()
    );
    Ok(())
}

/// Fails where the kernel lacks what connect-time balancing needs, naming it.
pub(super) fn kernel(backend: &dyn LbBackend) -> Result<()> {
    let probe = Handle::current().block_on(backend.probe());
    let missing: Vec<String> =
        probe.missing().map(|facility| format!("{} ({})", facility.name, facility.how)).collect();
    ensure!(
        probe.capabilities.is_some(),
        "this kernel cannot balance at connect(), it lacks {}; `shunt doctor` tells more",
        missing.join(" and ")
    );
    Ok(())
}
