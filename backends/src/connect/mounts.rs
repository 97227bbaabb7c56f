//! The file systems that matter, as `/proc/self/mountinfo` shows them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Which directory of the file system is mounted: `/`, one below it, or for cgroup2 one that
    /// lies `/..` above the root of our cgroup namespace.
    pub(super) root: String,
    /// Where.
    pub(super) point: PathBuf,
    /// Whether what is mounted here shows in other mount namespaces.
    pub(super) shared: bool,
    /// The type of the file system.
    pub(super) kind: String,
    /// What was mounted; of a pseudo file system, what its maker called it.
    pub(super) source: String,
    /// The options of the file system, with commas between them.
    pub(super) options: String,
}

impl Mount {
    /// Whether the file system has this option; for the first version of cgroups, this controller.
    pub(super) fn has_option(&self, option: &str) -> bool {
        self.options.split(',').any(|found| found == option)
    }
}

/// All mounts, in the order in which they were made.
///
/// # Errors
///
/// Fails if /proc is not there.
pub(super) fn mounts() -> io::Result<Vec<Mount>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().filter_map(parse).collect())
}

/// The mount that a path lies on: the last of those with the longest mount point.
pub(super) fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let over = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    over.max_by_key(|mount| mount.point.components().count())
}

fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let shared = fields.skip(1).any(|option| option.starts_with("shared:"));
    let mut fields = file_system.split(' ');
    let kind = fields.next()?.to_owned();
    let source = fields.next().unwrap_or_default().to_owned();
    let options = fields.next().unwrap_or_default().to_owned();
    Some(Mount { root, point: point.into(), shared, kind, source, options })
}

/// The kernel writes space, tab, newline and backslash as octal numbers.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        line: &str,
        root: &str,
        point: &str,
        shared: bool,
        [kind, source, options]: [&str; 3],
    ) {
        let expected = Mount {
            root: root.into(),
            point: point.into(),
            shared,
            kind: kind.into(),
            source: source.into(),
            options: options.into(),
        };
        assert_eq!(parse(line), Some(expected));
    }

    #[test]
    fn lines_are_understood() {
        check(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
            "/",
            "/sys/fs/cgroup",
            true,
            ["cgroup2", "cgroup2", "rw,nsdelegate"],
        );
        check(
            "61 57 0:26 /../.. /a\\040b rw - cgroup2 none rw",
            "/../..",
            "/a b",
            false,
            ["cgroup2", "none", "rw"],
        );
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mount = |point: &str, kind: &str| Mount {
            root: "/".into(),
            point: point.into(),
            shared: false,
            kind: kind.into(),
            source: String::new(),
            options: String::new(),
        };
        let mounts = [mount("/", "ext4"), mount("/sys", "sysfs"), mount("/sys/fs/bpf", "bpf")];
        let kind = |path: &str| mount_of(&mounts, Path::new(path)).map(|mount| mount.kind.as_str());
        assert_eq!(kind("/sys/fs/bpf/shunt"), Some("bpf"));
        assert_eq!(kind("/sys/fs/bpfx"), Some("sysfs"));
        assert_eq!(kind("/run"), Some("ext4"));
    }
}
