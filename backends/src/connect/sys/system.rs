//! The other system calls: grace periods, file systems, network namespaces, limits.

use std::{
    ffi::{CStr, CString, c_int, c_long},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use super::bpf::wait_for_programs;

/// `MEMBARRIER_CMD_QUERY`.
const MEMBARRIER_QUERY: c_int = 0;
/// `MEMBARRIER_CMD_GLOBAL`.
const MEMBARRIER_GLOBAL: c_int = 1;
/// `SO_NETNS_COOKIE`.
const SO_NETNS_COOKIE: c_int = 71;

fn membarrier(command: c_int) -> io::Result<c_int> {
    // SAFETY: the call takes a command, flags and a CPU number, and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

/// Waits until every program that runs now has ended: the kernel waits for an RCU grace period,
/// and programs run within RCU read sections.
///
/// # Minimum kernel version
///
/// 4.3 by membarrier. A kernel that was started with `nohz_full` refuses that command (EINVAL:
/// `tick_nohz_full_enabled` in kernel/sched/membarrier.c); there a map of maps does it, 4.20.
pub(in super::super) fn wait_for_grace() -> io::Result<()> {
    match membarrier(MEMBARRIER_GLOBAL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => wait_for_programs(),
        other => other.map(drop),
    }
}

/// Whether membarrier can wait for a grace period here.
pub(in super::super) fn has_global_membarrier() -> io::Result<bool> {
    Ok(membarrier(MEMBARRIER_QUERY)? & MEMBARRIER_GLOBAL != 0)
}

/// The cookie of the network namespace that a socket is in.
///
/// # Minimum kernel version
///
/// 5.14.
pub(in super::super) fn netns_cookie(socket: &OwnedFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: `cookie` is writable for `len` bytes, and `len` says so.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut len,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// The file system that a path lies on, by its magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct FileSystem(c_long);

impl FileSystem {
    /// cgroup2.
    pub(in super::super) const CGROUP2: Self = Self(0x6367_7270);
    /// bpffs.
    pub(in super::super) const BPF: Self = Self(0xcafe_4a11);

    /// Asks the kernel.
    pub(in super::super) fn of(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: an all-zero statfs is a value of it: integers only.
        let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: `path` is a C string and `stat` is writable; both outlive the call.
        let result = unsafe { libc::statfs(path.as_ptr(), &raw mut stat) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(stat.f_type)) }
    }
}

/// Mounts a pseudo file system (`bpf`, `cgroup2`) on a directory. `source` is a name for people,
/// and for who made the mount to know it by.
pub(in super::super) fn mount(kind: &CStr, source: &CStr, directory: &Path) -> io::Result<()> {
    let directory = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: three C strings that outlive the call, no flags and no data.
    let result = unsafe {
        libc::mount(source.as_ptr(), directory.as_ptr(), kind.as_ptr(), 0, std::ptr::null())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes back a mount; fails where it is in use.
pub(in super::super) fn unmount(directory: &Path) -> io::Result<()> {
    let directory = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: a C string that outlives the call.
    let result = unsafe { libc::umount2(directory.as_ptr(), libc::UMOUNT_NOFOLLOW) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A ring buffer that can be waited for.
pub(in super::super) fn watch(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring buffer owns the descriptor that it names, never changes it, and is owned by
    // the AsyncFd as long as that is registered.
    unsafe { AsyncFd::register(ring) }.map_err(io::Error::from)
}

/// Lifts the limit on locked memory, which kernels before 5.11 count maps against.
pub(in super::super) fn lift_memory_lock_limit() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` outlives the call, which only reads it.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this process is in the first cgroup namespace, which sees all cgroups.
pub(in super::super) fn is_initial_cgroup_namespace() -> bool {
    is_namespace("cgroup", 0xeffffffb)
}

/// Whether this process is in the first PID namespace, where PID 1 is the node's.
pub(in super::super) fn is_initial_pid_namespace() -> bool {
    is_namespace("pid", 0xeffffffc)
}

/// The first namespaces have fixed inodes (`include/linux/proc_ns.h`, `PROC_*_INIT_INO`).
fn is_namespace(kind: &str, inode: u64) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(format!("/proc/self/ns/{kind}")).is_ok_and(|file| file.ino() == inode)
}
