//! Where a backend cannot work it says why, in words that help: the wrong cgroup, no privilege.

use std::thread;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use caps::{CapSet, Capability};
use shunt_core::backend::{Bell, Probe};

use super::{MakeBackend, Site, Stage};

/// A folder that is no cgroup, and a thread without capabilities.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let folder = stage.world().folder().to_owned();
    stage.restart_at(|site| site.cgroup = Some(folder.clone()));
    if let Err(error) = stage.start() {
        let text = format!("{error:#}");
        let folder = folder.to_string_lossy();
        ensure!(text.contains(&*folder), "the message does not name {folder}: {text}");
        ensure!(text.contains("cgroup2"), "the message does not say what is expected: {text}");
    }

    let cgroup = stage.world().cgroup().to_owned();
    stage.restart_at(|site| site.cgroup = Some(cgroup));
    let (make, site) = (stage.maker(), stage.site().clone());
    stage.stop();
    let running = thread::spawn(move || without_privilege(make, &site));
    running.join().unwrap_or_else(|_| bail!("the thread without privilege panicked"))?;
    ensure!(!stage.site().pin_path.exists(), "a backend without privilege left something");
    Ok(())
}

/// Capabilities are a thread's own.
fn without_privilege(make: MakeBackend, site: &Site) -> Result<()> {
    for set in [CapSet::Effective, CapSet::Permitted] {
        for capability in [
            Capability::CAP_BPF,
            Capability::CAP_NET_ADMIN,
            Capability::CAP_PERFMON,
            Capability::CAP_SYS_ADMIN,
        ] {
            caps::drop(None, set, capability).context("cannot drop a capability")?;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(async {
        let mut backend = make(site);
        let probe: Probe = backend.probe().await;
        let told: Vec<_> = probe.missing().map(|facility| &facility.how).collect();
        match backend.start(Bell::default()).await {
            // A backend that needs no privilege has nothing to say.
            Ok(()) if probe.capabilities.is_some() => Ok(()),
            Ok(()) => bail!("started although it lacks {told:?}"),
            Err(error) => {
                ensure!(probe.capabilities.is_none(), "the probe sees nothing missing");
                ensure!(told.iter().any(|how| how.contains("CAP_")), "no word of CAP_…: {told:?}");
                let text = format!("{:#}", anyhow!(error));
                ensure!(text.contains("CAP_") || text.contains("permitted"), "{text}");
                Ok(())
            }
        }
    })
}
