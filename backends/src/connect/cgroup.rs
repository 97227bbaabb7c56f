//! The cgroup that the programs are attached to, and whether the node's pods are below it.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{
    mounts::{Mount, mount_of, mounts},
    own_mounts,
    sys::{self, FileSystem},
};

/// Where a cgroup2 is mounted if there is none yet.
pub(super) const OWN_MOUNT: &str = "/run/shunt/cgroup2";

/// A cgroup to attach to.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// Its directory.
    pub(super) path: PathBuf,
    /// Its directory, open.
    pub(super) fd: OwnedFd,
    /// Its id: the inode of its directory.
    pub(super) id: u64,
    /// Whether the operator named it.
    named: bool,
}

/// Why there is no cgroup to attach to.
#[derive(Debug, thiserror::Error)]
pub(super) enum CgroupError {
    /// The named directory is not a cgroup2.
    #[error("{} is not a cgroup2 directory", path.display())]
    NotCgroup2 {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be looked at.
    #[error("cannot open cgroup {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// There is no cgroup2, and none can be mounted.
    #[error("cannot mount cgroup2 at {OWN_MOUNT}")]
    Mount(#[source] io::Error),
}

impl Cgroup {
    /// The cgroup that the operator named, or the root of what is visible of the node's, mounting
    /// a cgroup2 if there is none.
    ///
    /// # Errors
    ///
    /// Fails if there is no such cgroup.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, CgroupError> {
        if let Some(path) = named {
            return Self::open(path, true);
        }
        if let Some(mount) = find_mount(&mounts().unwrap_or_default()) {
            return Self::open(&mount.point, false);
        }
        fs::create_dir_all(OWN_MOUNT).map_err(CgroupError::Mount)?;
        own_mounts::mount(c"cgroup2", Path::new(OWN_MOUNT)).map_err(CgroupError::Mount)?;
        Self::open(Path::new(OWN_MOUNT), false)
    }

    /// As [`Self::find`], without mounting.
    ///
    /// # Errors
    ///
    /// Fails if there is no such cgroup yet.
    pub(super) fn look(named: Option<&Path>) -> Result<Self, CgroupError> {
        match (named, find_mount(&mounts().unwrap_or_default())) {
            (Some(path), _) => Self::open(path, true),
            (None, Some(mount)) => Self::open(&mount.point, false),
            (None, None) => Err(CgroupError::Mount(io::ErrorKind::NotFound.into())),
        }
    }

    fn open(path: &Path, named: bool) -> Result<Self, CgroupError> {
        let cause = |cause| CgroupError::Open { path: path.to_owned(), cause };
        if FileSystem::of(path).map_err(cause)? != FileSystem::CGROUP2 {
            return Err(CgroupError::NotCgroup2 { path: path.to_owned() });
        }
        let directory = File::open(path).map_err(cause)?;
        let id = directory.metadata().map_err(cause)?.ino();
        Ok(Self { path: path.to_owned(), fd: directory.into(), id, named })
    }

    /// The cgroup that is now where this one was, if this one is gone and another is there.
    pub(super) fn successor(&self) -> Option<Self> {
        let other = Self::open(&self.path, self.named).ok()?;
        (other.id != self.id).then_some(other)
    }

    /// Why the node's pods may not be below this cgroup, if they may not.
    pub(super) fn doubt(&self) -> Option<String> {
        if !fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.id) {
            return Some(format!("cgroup {} is gone", self.path.display()));
        }
        if self.named {
            return None;
        }
        let mounts = mounts().unwrap_or_default();
        let root = mount_of(&mounts, &self.path).map_or("/", |mount| mount.root.as_str());
        let first_process = sys::is_initial_pid_namespace()
            .then(|| fs::read_to_string("/proc/1/cgroup").ok())
            .flatten();
        let facts = Facts {
            is_initial_namespace: sys::is_initial_cgroup_namespace(),
            root,
            first_process: first_process.as_deref().and_then(cgroup2_path),
            has_kubepods: KUBEPODS.iter().any(|name| self.path.join(name).is_dir()),
        };
        facts.doubt().map(str::to_owned)
    }
}

/// Where kubelet puts pods, by its cgroup driver, and in a node that is itself a container.
const KUBEPODS: [&str; 4] =
    ["kubepods", "kubepods.slice", "kubelet/kubepods", "kubelet.slice/kubelet-kubepods.slice"];

/// What tells whether a cgroup is an ancestor of everything on the node.
struct Facts<'a> {
    /// Whether this is the cgroup namespace of the boot.
    is_initial_namespace: bool,
    /// What of the hierarchy is mounted, relative to the root of the cgroup namespace.
    root: &'a str,
    /// The cgroup of the node's first process, relative to the same, where it can be seen.
    first_process: Option<&'a str>,
    /// Whether kubelet's cgroup for pods is below.
    has_kubepods: bool,
}

impl Facts<'_> {
    fn doubt(&self) -> Option<&'static str> {
        if (self.is_initial_namespace && self.root == "/") || self.has_kubepods {
            return None;
        }
        match self.first_process {
            Some(process) if is_below(process, self.root) => None,
            Some(_) => Some(
                "the node's pods are not attached: the node's first process is outside the cgroup that is visible \
                 here, and so are the node's pods; mount the host's /sys/fs/cgroup, or name the \
                 cgroup with --cgroup",
            ),
            None => Some(
                "the node's pods are not attached: this cgroup namespace is private and shows no pods; run in the \
                 host's PID and cgroup namespaces, mount the host's /sys/fs/cgroup, or name the \
                 cgroup with --cgroup",
            ),
        }
    }
}

/// Whether a cgroup lies at or below another, both relative to the root of our namespace, above
/// which the kernel writes `/..`.
fn is_below(path: &str, root: &str) -> bool {
    let names = |path: &'_ str| -> Vec<String> {
        path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let (path, root) = (names(path), names(root));
    let ups = |names: &[String]| names.iter().take_while(|name| *name == "..").count();
    // `/../..` is above `/../init.scope`, which is above nothing of `/../..`.
    if ups(&root) == root.len() {
        return ups(&path) <= ups(&root);
    }
    path.starts_with(&root)
}

/// The cgroup2 path in the text of `/proc/<pid>/cgroup`.
fn cgroup2_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

fn find_mount(mounts: &[Mount]) -> Option<&Mount> {
    highest(mounts.iter().filter(|mount| mount.kind == "cgroup2"))
}

/// Of mounts of one hierarchy the one that shows most: a container may see its own subtree and, by
/// a mount from the host, the whole.
pub(super) fn highest<'a>(mounts: impl Iterator<Item = &'a Mount>) -> Option<&'a Mount> {
    let height = |mount: &&Mount| mount.root.matches("/..").count();
    let of_root = |mount: &&Mount| mount.root.replace("/..", "").trim_matches('/').is_empty();
    mounts.filter(of_root).max_by_key(height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        is_initial_namespace: bool,
        root: &str,
        first_process: Option<&str>,
        has_kubepods: bool,
        attached: bool,
    ) {
        let facts = Facts { is_initial_namespace, root, first_process, has_kubepods };
        assert_eq!(facts.doubt().is_none(), attached, "{root} {first_process:?}");
    }

    #[test]
    fn what_proves_that_pods_are_below() {
        // On the host.
        check(true, "/", Some("/init.scope"), false, true);
        // A private namespace whose container shows itself as the root.
        check(false, "/", None, false, false);
        check(false, "/", Some("/../../init.scope"), false, false);
        // The host's hierarchy mounted into a container with a private namespace.
        check(false, "/../..", Some("/../../init.scope"), false, true);
        check(false, "/..", Some("/../../init.scope"), false, false);
        // A subtree mounted on a host.
        check(true, "/system.slice", Some("/init.scope"), false, false);
        check(true, "/system.slice", Some("/system.slice/a"), false, true);
        // A node within a container, as kind makes them.
        check(false, "/", None, true, true);
    }

    #[test]
    fn the_highest_mount_is_taken() {
        let mount = |root: &str, point: &str, kind: &str| Mount {
            root: root.into(),
            point: point.into(),
            shared: false,
            kind: kind.into(),
            source: String::new(),
            options: String::new(),
        };
        let mounts = [
            mount("/", "/sys/fs/cgroup", "cgroup2"),
            mount("/../..", "/host/cgroup", "cgroup2"),
            mount("/../../a", "/host/a", "cgroup2"),
            mount("/", "/sys/fs/cgroup/cpu", "cgroup"),
        ];
        let point = |mounts| find_mount(mounts).map(|mount| mount.point.display().to_string());
        assert_eq!(point(&mounts).as_deref(), Some("/host/cgroup"));
        assert_eq!(point(&mounts[..1]).as_deref(), Some("/sys/fs/cgroup"));
        assert_eq!(point(&mounts[3..]), None);
        assert_eq!(cgroup2_path("3:cpu:/a\n0::/init.scope\n"), Some("/init.scope"));
    }
}
