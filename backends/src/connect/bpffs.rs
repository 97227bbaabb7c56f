//! The file system that pins live in.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    mounts::{mount_of, mounts},
    own_mounts,
    sys::{self, FileSystem},
};

/// Makes sure that the pin directory's parent is on bpffs, mounting one where it is not.
///
/// Returns a warning where pins will not outlive this container.
///
/// # Errors
///
/// Fails if the parent cannot be made, looked at, or mounted on.
pub(super) fn ensure(pin_path: &Path) -> io::Result<Option<String>> {
    let parent = parent_of(pin_path);
    fs::create_dir_all(&parent)?;
    if FileSystem::of(&parent)? == FileSystem::BPF {
        return Ok(None);
    }
    own_mounts::mount(c"bpf", &parent)?;
    tracing::info!(path = %parent.display(), "mounted bpffs");
    Ok(restart_risk(&parent))
}

/// The directory above the pin directory.
pub(super) fn parent_of(pin_path: &Path) -> PathBuf {
    pin_path.parent().unwrap_or_else(|| Path::new("/")).to_owned()
}

/// Why pins below a bpffs that was mounted here would die with this container, if they would: not
/// where this mount namespace is the host's, or the mount shows there.
fn restart_risk(parent: &Path) -> Option<String> {
    let host = fs::read_link("/proc/1/ns/mnt").ok();
    let is_host = sys::is_initial_pid_namespace()
        && host.is_some()
        && host == fs::read_link("/proc/self/ns/mnt").ok();
    let mounts = mounts().unwrap_or_default();
    let is_shared = mount_of(&mounts, parent).is_some_and(|mount| mount.shared);
    (!is_host && !is_shared).then(|| {
        format!(
            "not restart-safe: the bpffs at {} is this container's own, and what is pinned there \
             ends with it; mount the host's /sys/fs/bpf instead",
            parent.display()
        )
    })
}
