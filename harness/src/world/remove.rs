//! Removing worlds by name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use nlink::netlink::namespace;

use super::cgroup::{self, cgroup2_mount};
use crate::until;

/// The file that tells [`sweep`] that someone wants the world although its maker is gone.
pub(super) const KEPT: &str = "kept";

/// Where each world has its folder: in memory, gone with a restart as all else of a world is.
const WORLDS: &str = "/run";

/// The folder of the world called `name`.
pub(super) fn folder(name: &str) -> PathBuf {
    Path::new(WORLDS).join(name)
}

/// Removes every world whose maker is gone, unless it was kept.
///
/// What cannot be removed is logged: it must not keep a new world from being made.
pub(super) fn sweep() {
    for name in names().unwrap_or_default() {
        let alive = maker(&name).is_none_or(|pid| kill(pid, None) != Err(Errno::ESRCH));
        if alive || folder(&name).join(KEPT).exists() {
            continue;
        }
        if let Err(error) = remove(&name) {
            tracing::warn!("a world of a dead process was not removed: {error:#}");
        }
    }
}

/// The worlds that were kept.
pub(super) fn kept() -> Result<Vec<String>> {
    let mut names = names()?;
    names.retain(|name| folder(name).join(KEPT).exists());
    Ok(names)
}

/// Every world has a folder, which is made first and removed last.
fn names() -> Result<Vec<String>> {
    let entries = fs::read_dir(WORLDS).with_context(|| format!("cannot list {WORLDS}"))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| maker(name).is_some())
        .collect())
}

/// The process that made the world called `name`.
fn maker(name: &str) -> Option<Pid> {
    let (pid, _) = name.strip_prefix("shunt-")?.split_once('-')?;
    pid.parse().ok().map(Pid::from_raw)
}

/// Removes the world called `name`. Goes on after an error and returns them all as one.
pub(super) fn remove(name: &str) -> Result<()> {
    maker(name).with_context(|| format!("{name} is not the name of a world"))?;
    let mut errors = Vec::new();
    // Without a cgroup2 mount there was no world with a cgroup.
    let cgroup = cgroup2_mount().map(|mount| mount.join(name)).ok();
    if let Some(cgroup) = cgroup.as_deref().filter(|cgroup| cgroup.exists()) {
        errors.extend(end_processes(cgroup).err());
        errors.extend(remove_cgroup(cgroup).err());
    }
    let prefix = format!("{name}.");
    for namespace in namespace::list().unwrap_or_default() {
        if namespace.starts_with(&prefix) {
            errors.extend(namespace::delete(&namespace).err().map(Error::from));
        }
    }
    errors.extend(remove_folder(&folder(name)).err());
    if errors.is_empty() {
        return Ok(());
    }
    let texts: Vec<_> = errors.iter().map(|error| format!("{error:#}")).collect();
    Err(anyhow!("cannot remove all of {name}: {}", texts.join("; ")))
}

/// Ends all processes in a world's cgroup but this one, which leaves it.
fn end_processes(world: &Path) -> Result<()> {
    if cgroup::own_cgroup().is_ok_and(|own| own.starts_with(world)) {
        let parent = world.parent().context("a world's cgroup has a parent")?;
        cgroup::enter(parent)?;
    }
    until("the world's processes to end", Duration::from_secs(5), || {
        let pids = processes(world);
        for &pid in pids.iter().filter(|pid| pid.as_raw() != process::id().cast_signed()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        pids.is_empty().then_some(())
    })
}

/// The processes in a cgroup and in those below it.
fn processes(cgroup: &Path) -> Vec<Pid> {
    let own = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<_> =
        own.lines().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect();
    for child in children(cgroup) {
        pids.extend(processes(&child));
    }
    pids
}

fn children(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Removes a cgroup without processes, and those below it first.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    for child in children(cgroup) {
        remove_cgroup(&child)?;
    }
    // The kernel counts a process that is being reaped for a moment longer.
    until("a cgroup to be removable", Duration::from_secs(5), || match fs::remove_dir(cgroup) {
        Ok(()) => Some(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => None,
        Err(error) => Some(Err(error)),
    })?
    .with_context(|| format!("cannot remove cgroup {}", cgroup.display()))
}

fn remove_folder(folder: &Path) -> Result<()> {
    let bpffs = folder.join("bpf");
    // Pins live as long as their filesystem; what is pinned nowhere and held by nobody is gone.
    match umount2(&bpffs, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(error) => return Err(error).context("cannot unmount the world's bpffs"),
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
