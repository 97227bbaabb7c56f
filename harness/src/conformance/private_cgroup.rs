//! An agent in a private cgroup namespace, with the pods outside, must not call itself attached.

use std::{net::SocketAddr, path::Path, process::Child, thread};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use shunt_core::{
    backend::Feature,
    model::{Family, Protocol},
};

use super::{Dialect, Stage, agent::Script, service_ip};
use crate::world::cgroup2_mount;

/// The agent finds a cgroup2 whose root is its own cgroup, as in a container.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let dialect = Dialect { protocol: Protocol::Tcp, family: Family::V4, mapped: false };
    if !stage.dialects().contains(&dialect) {
        return Ok(());
    }
    let endpoints = stage.farm(dialect.protocol, dialect.family, 8000, 2)?;
    let script = Script {
        cgroup: None,
        pin_path: stage.site().pin_path.clone(),
        name: "private".to_owned(),
        address: SocketAddr::new(service_ip(dialect.family, 1), 80),
        sets: vec![endpoints.clone()],
        verdict: stage.world().folder().join("verdict"),
    };
    stage.stop();
    let mut agent = start_in_private(stage, &script)?;
    let problems = script.verdict(stage, &mut agent);
    let _ = agent.kill();
    agent.wait().context("cannot wait for the agent")?;
    let problems = problems?;

    let client = stage.client()?;
    if stage.expect_served(client, dialect, script.address, &endpoints).is_ok() {
        // Who looks at packets serves the pods all the same.
        ensure!(stage.can(Feature::Forwarded), "served from a private cgroup");
        let said = problems.iter().any(|problem| problem.contains("not attached"));
        let is_alone = !stage.decides_at_calls();
        ensure!(said != is_alone && said != problems.is_empty(), "the agent says {problems:?}");
        return Ok(());
    }
    stage.expect_untouched(client, dialect, script.address)?;
    let said = problems.iter().any(|problem| problem.contains("not attached"));
    ensure!(said, "pods are not served, and the agent says {problems:?}");
    Ok(())
}

/// A child has the namespaces of the thread that starts it.
fn start_in_private(stage: &Stage<'_>, script: &Script) -> Result<Child> {
    let mount_point = cgroup2_mount()?;
    let mut command = script.command(stage)?;
    thread::scope(|scope| {
        let starting = scope.spawn(move || {
            enter_private(&mount_point)?;
            command.spawn().context("cannot start another agent")
        });
        starting.join().unwrap_or_else(|_| bail!("the thread of the other agent panicked"))
    })
}

/// The root of the new cgroup namespace is the cgroup that this process is in: the host's of the
/// world. The old mount shows all of the machine and must not be found.
fn enter_private(mount_point: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS)
        .context("cannot make a private cgroup namespace")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("cannot make the mounts private")?;
    umount2(mount_point, MntFlags::MNT_DETACH).context("cannot unmount the machine's cgroup2")?;
    mount(Some("cgroup2"), mount_point, Some("cgroup2"), MsFlags::empty(), None::<&str>)
        .context("cannot mount the private cgroup2")
}
