//! What ties the programs to the cgroup, and survives the agent.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use super::{
    cgroup::Cgroup,
    hook::{HOOKS, Hook},
    program::Programs,
    sys,
};

/// A link could not be made, moved or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the link of {hook}")]
pub(super) struct LinkError {
    operation: &'static str,
    hook: &'static str,
    #[source]
    cause: io::Error,
}

impl Hook {
    fn failed(self, operation: &'static str) -> impl FnOnce(io::Error) -> LinkError {
        move |cause| LinkError { operation, hook: self.program, cause }
    }
}

/// What [`Links::attach`] did at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    /// The link was as it should be.
    Already,
    /// The program of an earlier run, or of other tables, was replaced.
    Replaced,
    /// There was no link.
    New,
    /// The link was there, but its pin was gone.
    Pinned,
    /// There was a link that led nowhere or to another cgroup.
    Anew,
}

/// The links, held open as well as pinned: where pins vanish (bpffs unmounted, a file removed) the
/// programs stay attached until they are pinned again.
#[derive(Debug)]
pub(super) struct Links {
    directory: PathBuf,
    held: BTreeMap<&'static str, OwnedFd>,
}

impl Links {
    /// Links that are, or will be, pinned in this directory.
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory, held: BTreeMap::new() }
    }

    /// Attaches the programs to the cgroup, hook by hook in the order of [`HOOKS`]. Links of
    /// earlier runs are updated, which replaces their program in one step; one at a hook for which
    /// there is no program now is left as it is.
    ///
    /// # Errors
    ///
    /// Fails at the first hook that the kernel refuses; those before it are attached.
    pub(super) fn attach(
        &mut self,
        programs: &Programs,
        cgroup: &Cgroup,
    ) -> Result<Vec<(Hook, Attached)>, LinkError> {
        let attach = |(hook, program, id)| {
            self.attach_one((program, id), cgroup, hook).map(|how| (hook, how))
        };
        programs.all().map(attach).collect()
    }

    fn attach_one(
        &mut self,
        (program, id): (&OwnedFd, u32),
        cgroup: &Cgroup,
        hook: Hook,
    ) -> Result<Attached, LinkError> {
        let path = self.directory.join(hook.program);
        let pinned = open(&path).map_err(hook.failed("open"))?;
        let is_pinned = pinned.is_some();
        let Some(link) = pinned.or_else(|| self.held.remove(hook.program)) else {
            self.create(&path, program, cgroup, hook)?;
            return Ok(Attached::New);
        };
        let info = sys::link_info(link.as_fd()).map_err(hook.failed("read"))?;
        if info.cgroup != cgroup.id {
            // The new one first: a call may meet both, and the second finds nothing to translate.
            let fresh = new_link(program, cgroup, hook)?;
            remove(&path, hook)?;
            sys::object_pin(fresh.as_fd(), &path).map_err(hook.failed("pin"))?;
            self.held.insert(hook.program, fresh);
            return Ok(Attached::Anew);
        }
        let mut done = Attached::Already;
        if !is_pinned {
            sys::object_pin(link.as_fd(), &path).map_err(hook.failed("pin"))?;
            done = Attached::Pinned;
        }
        if info.program != id {
            let result = sys::link_update(link.as_raw_fd(), program.as_raw_fd());
            result.map_err(hook.failed("update"))?;
            done = Attached::Replaced;
        }
        self.held.insert(hook.program, link);
        Ok(done)
    }

    fn create(
        &mut self,
        path: &Path,
        program: &OwnedFd,
        cgroup: &Cgroup,
        hook: Hook,
    ) -> Result<(), LinkError> {
        let link = new_link(program, cgroup, hook)?;
        sys::object_pin(link.as_fd(), path).map_err(hook.failed("pin"))?;
        self.held.insert(hook.program, link);
        Ok(())
    }
}

fn new_link(program: &OwnedFd, cgroup: &Cgroup, hook: Hook) -> Result<OwnedFd, LinkError> {
    sys::link_create(program.as_raw_fd(), cgroup.fd.as_raw_fd(), hook.attach_type)
        .map_err(hook.failed("create"))
}

/// The pinned link, or `None` if there is none.
fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    match sys::object_get(path) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The ids of the programs that the pinned links run, in the order of [`HOOKS`].
///
/// # Errors
///
/// Fails if a link is there and cannot be read.
pub(super) fn programs(links: &Path) -> Result<Vec<u32>, LinkError> {
    let mut found = Vec::new();
    for hook in HOOKS {
        let link = open(&links.join(hook.program)).map_err(hook.failed("open"))?;
        let Some(link) = link else { continue };
        found.push(sys::link_info(link.as_fd()).map_err(hook.failed("read"))?.program);
    }
    Ok(found)
}

/// Detaches and unpins one link, at once: without the detaching the kernel would do it some time
/// after the last descriptor is closed. True if there was one.
///
/// # Errors
///
/// Fails if the pin cannot be removed.
pub(super) fn remove(path: &Path, hook: Hook) -> Result<bool, LinkError> {
    let Some(link) = open(path).map_err(hook.failed("open"))? else { return Ok(false) };
    // Kernels before 5.9 cannot detach, and a link whose cgroup is gone is detached already.
    let _ = sys::link_detach(link.as_fd());
    fs::remove_file(path).map_err(hook.failed("unpin"))?;
    Ok(true)
}
