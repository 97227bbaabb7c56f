//! The kernel's hooks and the programs for them.

/// A hook of a cgroup, and the program for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// The program's name in the object, and its link's name in the pin directory.
    pub(super) program: &'static str,
    /// `enum bpf_attach_type`.
    pub(super) attach_type: u32,
    /// The kernel's name of the hook and its first version with it.
    pub(super) name: &'static str,
    /// The kernel's name for the kind of its programs.
    pub(super) kind: HookKind,
}

/// What a hook's programs look at, by which the kernel knows them: `enum bpf_prog_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum HookKind {
    /// A socket: `BPF_PROG_TYPE_CGROUP_SOCK`.
    Sock = 9,
    /// A call with an address: `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
    SockAddr = 18,
}

const fn hook(program: &'static str, attach_type: u32, name: &'static str) -> Hook {
    Hook { program, attach_type, name, kind: HookKind::SockAddr }
}

/// Where the kernel tells that a socket ends. The programs do without where it does not.
pub(super) const SOCK_RELEASE: Hook = Hook {
    program: "sock_release",
    attach_type: 34,
    name: "cgroup/sock_release (5.9)",
    kind: HookKind::Sock,
};

/// All hooks in the order in which they are attached and moved to other tables: what shows the
/// application a name must understand every address before anything makes such an address, and what
/// clears up must run before anything leaves something behind. They are detached the other way
/// round.
pub(super) const HOOKS: [Hook; 9] = [
    hook("recvmsg4", 19, "cgroup/recvmsg4 (5.2)"),
    hook("recvmsg6", 20, "cgroup/recvmsg6 (5.2)"),
    hook("getpeername4", 29, "cgroup/getpeername4 (5.8)"),
    hook("getpeername6", 30, "cgroup/getpeername6 (5.8)"),
    SOCK_RELEASE,
    hook("sendmsg4", 14, "cgroup/sendmsg4 (4.18)"),
    hook("sendmsg6", 15, "cgroup/sendmsg6 (4.18)"),
    hook("connect4", 10, "cgroup/connect4 (4.17)"),
    hook("connect6", 11, "cgroup/connect6 (4.17)"),
];
