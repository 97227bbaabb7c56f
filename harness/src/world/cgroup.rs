//! Where cgroup2 is mounted, and which cgroup this process is in.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

/// The mount point of cgroup2: unified (`/sys/fs/cgroup`) or hybrid (`/sys/fs/cgroup/unified`).
///
/// # Errors
///
/// Fails where none is mounted.
pub fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    mounts.lines().find_map(cgroup2_of).context("no cgroup2 filesystem is mounted here")
}

/// The mount point in a line of `mountinfo`, if a cgroup2 is mounted there from its root.
fn cgroup2_of(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let root = fields.next()?;
    let point = fields.next()?;
    (kind.starts_with("cgroup2 ") && root == "/").then(|| point.replace("\\040", " ").into())
}

/// This process is in another cgroup until this is dropped.
#[derive(Debug)]
pub struct Membership {
    before: PathBuf,
}

impl Membership {
    pub(super) fn join(cgroup: &Path) -> Result<Self> {
        let before = own_cgroup()?;
        enter(cgroup)?;
        Ok(Self { before })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.before) {
            tracing::error!("cannot return to the cgroup of before: {error:#}");
        }
    }
}

/// The cgroup of this process, below the mount.
pub(super) fn own_cgroup() -> Result<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").context("cannot read own cgroup")?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(cgroup2_mount()?.join(own.context("this process is in no cgroup2")?))
}

pub(super) fn enter(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), process::id().to_string())
        .with_context(|| format!("cannot enter cgroup {}", cgroup.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&str>) {
        assert_eq!(cgroup2_of(line), expected.map(PathBuf::from), "{line}");
    }

    #[test]
    fn finds_the_mount() {
        check(
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
            Some("/sys/fs/cgroup/unified"),
        );
        check("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 none rw", Some("/sys/fs/cgroup"));
        check("30 23 0:26 / /a\\040b rw - cgroup2 none rw", Some("/a b"));
        check("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", None);
        check("30 23 0:26 /below /sys/fs/cgroup rw - cgroup2 none rw", None);
        check("nonsense", None);
    }
}
