//! Work in the root memory cgroup, so that what it makes is charged to no container.
//!
//! The kernel charges each socket's storage to the memory cgroup in which its map was made, not to
//! the socket's owner. Made where the agent is, the storage of every connection on the node would
//! count against the agent's own limit: a crowd of connections would leave new ones untranslated.
//! What is made in the root cgroup is charged to nobody, and making it costs a connect 300 ns less
//! (two allocations; docs/benchmarks.md). Its size stays bounded: each socket's share counts
//! against that socket's `net.core.optmem_max`, and the socket itself against its owner.

use std::{fs, path::PathBuf};

use super::{
    cgroup::highest,
    mounts::{Mount, mounts},
};

/// Does something in the root of the memory cgroups, or in the highest that is visible.
///
/// Where that cannot be entered the work is done all the same, and charged to the agent.
pub(super) fn uncharged<T>(work: impl FnOnce() -> T) -> T {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let way = Way::find(&cgroups, &mounts().unwrap_or_default());
    let _stay = way.and_then(Stay::begin);
    work()
}

/// The files by which a task enters the root cgroup and gets back to its own.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    root: PathBuf,
    own: PathBuf,
}

impl Way {
    /// Of the hierarchy that counts memory; `None` where the task is at its root already, or the
    /// way back cannot be told.
    fn find(cgroups: &str, mounts: &[Mount]) -> Option<Self> {
        // The first version of cgroups moves single threads, the second whole processes.
        let (own, kind, file) = match of_version_1(cgroups) {
            Some(own) => (own, "cgroup", "tasks"),
            None => (
                cgroups.lines().find_map(|line| line.strip_prefix("0::"))?,
                "cgroup2",
                "cgroup.procs",
            ),
        };
        let counts = |mount: &&Mount| {
            mount.kind == kind && (kind == "cgroup2" || mount.has_option("memory"))
        };
        let counting = || mounts.iter().filter(counts);
        let root = highest(counting())?.point.clone();
        // Paths begin at the root of our cgroup namespace, which this mount shows.
        let here = counting().find(|mount| mount.root == "/")?;
        let own = here.point.join(own.trim_start_matches('/'));
        (own != root).then(|| Self { root: root.join(file), own: own.join(file) })
    }
}

/// The path in the hierarchy of the first version that counts memory, if there is one.
fn of_version_1(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|controller| controller == "memory").then_some(path)
    })
}

/// The task is in the root cgroup until this is dropped.
struct Stay {
    own: PathBuf,
}

impl Stay {
    fn begin(way: Way) -> Option<Self> {
        // 0 is whoever writes.
        match fs::write(&way.root, "0") {
            Ok(()) => Some(Self { own: way.own }),
            Err(error) => {
                tracing::info!(
                    file = %way.root.display(),
                    "the storage of sockets is charged to the agent: cannot enter the root memory \
                     cgroup: {error}"
                );
                None
            }
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.own, "0") {
            tracing::error!(file = %self.own.display(), "cannot return to the own cgroup: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(root: &str, point: &str, kind: &str, options: &str) -> Mount {
        Mount {
            root: root.into(),
            point: point.into(),
            shared: false,
            kind: kind.into(),
            source: String::new(),
            options: options.into(),
        }
    }

    fn check(cgroups: &str, mounts: &[Mount], expected: Option<(&str, &str)>) {
        let expected = expected.map(|(root, own)| Way { root: root.into(), own: own.into() });
        assert_eq!(Way::find(cgroups, mounts), expected, "{cgroups}");
    }

    #[test]
    fn the_way_is_that_of_the_hierarchy_that_counts_memory() {
        let unified = [mount("/", "/sys/fs/cgroup", "cgroup2", "rw")];
        let hybrid = [
            mount("/", "/sys/fs/cgroup/cpu", "cgroup", "rw,cpu"),
            mount("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
            mount("/", "/sys/fs/cgroup/unified", "cgroup2", "rw"),
        ];
        check(
            "0::/a/b\n",
            &unified,
            Some(("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/a/b/cgroup.procs")),
        );
        check(
            "5:cpu,cpuacct:/x\n4:hugetlb,memory:/a\n0::/\n",
            &hybrid,
            Some(("/sys/fs/cgroup/memory/tasks", "/sys/fs/cgroup/memory/a/tasks")),
        );
        check("0::/\n", &unified, None);
        check("4:memory:/\n0::/a\n", &hybrid, None);
        check("0::/a\n", &[], None);
    }

    #[test]
    fn a_private_namespace_is_left_by_a_mount_of_the_hosts() {
        let own = mount("/", "/sys/fs/cgroup", "cgroup2", "rw");
        let host = mount("/../..", "/host/cgroup", "cgroup2", "rw");
        check(
            "0::/\n",
            &[own, host.clone()],
            Some(("/host/cgroup/cgroup.procs", "/sys/fs/cgroup/cgroup.procs")),
        );
        // Nothing shows where this task is, so it could not get back.
        check("0::/\n", &[host], None);
    }
}
