//! The demo, compiled in.

mod acts;
mod agent;
mod manifests;
mod prepare;
mod stage;
mod tell;

use anyhow::{Context as _, Result, anyhow, bail};
use shunt_harness::{probe, world::World};
use tokio_util::sync::CancellationToken;

use self::stage::Stage;
use super::DemoArgs;
use crate::run::end_on_signal;

/// Makes the world, shows everything, and removes the world whatever happens.
pub(crate) async fn run(args: &DemoArgs) -> Result<()> {
    if args.remove {
        return remove();
    }
    let interrupted = end_on_signal()?;
    let keep = args.keep;
    let token = interrupted.clone();
    // The world is made of blocking calls. They all have deadlines, so that the thread ends, and
    // the world with it, soon after a signal.
    let shown = tokio::task::spawn_blocking(move || show(keep, &token)).await;
    match shown.map_err(|panic| anyhow!("the demo panicked: {panic}"))? {
        // What fails after a signal fails because of it.
        Err(_) if interrupted.is_cancelled() => bail!("interrupted; the world is removed"),
        shown => shown,
    }
}

/// The process of a pod: see [`probe`].
pub(crate) fn probe_process() -> Result<()> {
    probe::run()
}

fn show(keep: bool, interrupted: &CancellationToken) -> Result<()> {
    let stage = Stage::set_up(interrupted)?;
    acts::play(&stage)?;
    if keep {
        return stage.keep();
    }
    tell::end("The world is removed. `shunt demo --keep` leaves it up to look around.")
}

fn remove() -> Result<()> {
    let kept = World::kept()?;
    if kept.is_empty() {
        return tell::end("nothing to remove");
    }
    for name in kept {
        World::remove(&name).with_context(|| format!("cannot remove the world {name}"))?;
        tell::end(&format!("removed the world {name}"))?;
    }
    Ok(())
}
