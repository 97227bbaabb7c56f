//! The file systems that the agent mounts where the machine has none, and taking them back.

use std::{
    ffi::{CStr, OsStr},
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    cgroup::OWN_MOUNT,
    mounts::{Mount, mounts},
    sys,
};

/// By this name of its source a mount is known to be ours, whichever run of the agent made it.
const SOURCE: &CStr = c"shunt";

/// Mounts a pseudo file system as ours.
///
/// # Errors
///
/// Fails if the kernel refuses.
pub(super) fn mount(kind: &CStr, directory: &Path) -> io::Result<()> {
    sys::mount(kind, SOURCE, directory)
}

/// Takes back the bpffs on `parent` and the cgroup2 at our own place, where they are ours, and says
/// what it did. A bpffs stays that somebody else has pinned something in meanwhile.
///
/// Mounts in another mount namespace are not seen: those of a container end with it.
///
/// # Errors
///
/// Fails if one cannot be unmounted, after trying all.
pub(super) fn unmount(parent: &Path, removed: &mut Vec<String>) -> io::Result<()> {
    let parent = fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
    let mut first = None;
    for point in ours(&mounts()?, &parent) {
        if point == parent && !is_empty(&point) {
            tracing::info!(path = %point.display(), "the bpffs stays: others have pins in it");
            continue;
        }
        match sys::unmount(&point) {
            Ok(()) => removed.push(format!("mount {}", point.display())),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
        if point == Path::new(OWN_MOUNT) {
            // The directory is ours as well; where it is not empty, something was below the mount.
            let _ = fs::remove_dir(&point);
        }
    }
    first.map_or(Ok(()), Err)
}

/// The mount points of our own.
fn ours(mounts: &[Mount], parent: &Path) -> Vec<PathBuf> {
    let is_ours = |mount: &&Mount| {
        let place = match mount.kind.as_str() {
            "bpf" => parent,
            "cgroup2" => Path::new(OWN_MOUNT),
            _ => return false,
        };
        mount.source.as_bytes() == SOURCE.to_bytes() && mount.point == place
    };
    mounts.iter().filter(is_ours).map(|mount| mount.point.clone()).collect()
}

/// Whether nobody has pinned anything: the kernel itself may put these two files into a new bpffs
/// (`populate_bpffs` in kernel/bpf/inode.c, 5.13).
fn is_empty(directory: &Path) -> bool {
    let is_kernels = |name: &OsStr| name == "maps.debug" || name == "progs.debug";
    fs::read_dir(directory).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| is_kernels(&entry.file_name())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_carries_our_name_and_lies_at_our_place_is_ours() {
        let mount = |point: &str, kind: &str, source: &str| Mount {
            root: "/".into(),
            point: point.into(),
            shared: false,
            kind: kind.into(),
            source: source.into(),
            options: "rw".into(),
        };
        let mounts = [
            mount("/sys/fs/bpf", "bpf", "bpf"),
            mount("/run/pins", "bpf", "shunt"),
            mount("/run/shunt/cgroup2", "cgroup2", "shunt"),
            mount("/sys/fs/cgroup", "cgroup2", "shunt"),
            mount("/run/pins/tmp", "tmpfs", "shunt"),
        ];
        let check = |parent: &str, expected: &[&str]| {
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(ours(&mounts, Path::new(parent)), expected, "{parent}");
        };
        check("/run/pins", &["/run/pins", "/run/shunt/cgroup2"]);
        check("/sys/fs/bpf", &["/run/shunt/cgroup2"]);
        check("/run/pins/tmp", &["/run/shunt/cgroup2"]);
    }
}
