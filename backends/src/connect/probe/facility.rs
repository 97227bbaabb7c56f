//! One function a facility: how it is tried, and what is lost without it.

use std::{
    error::Error,
    io,
    net::UdpSocket,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
};

use caps::{CapSet, Capability};
use shunt_core::backend::Facility;

use super::{
    super::{
        ConnectOptions, bpffs,
        cgroup::Cgroup,
        hook::{Hook, SOCK_RELEASE},
        pins::Pins,
        program::{Extras, Loaded},
        sizes::TableSizes,
        sys::{
            self, ARRAY, FileSystem, HASH, MMAPABLE, MapSpec, NO_PREALLOC, RING_BUFFER, SK_STORAGE,
        },
    },
    code,
};

/// `BPF_CGROUP_INET4_CONNECT`.
pub(super) const CONNECT4: u32 = 10;

/// Everything is lost.
const ALL: &str = "no Service is balanced at connect()";

/// What came of trying.
fn facility(
    name: &'static str,
    tried: &str,
    result: Result<String, io::Error>,
    lost: &'static str,
) -> Facility {
    let (present, how) = match result {
        Ok(said) if said.is_empty() => (true, tried.to_owned()),
        Ok(said) => (true, format!("{tried}: {said}")),
        Err(error) => (false, format!("{tried}: {error}")),
    };
    Facility { name, present, required: true, how, lost }
}

fn optional(facility: Facility) -> Facility {
    Facility { required: false, ..facility }
}

/// The capabilities, each by itself: the message names the one that is missing.
pub(super) fn capabilities() -> Vec<Facility> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    // Before CAP_BPF there was CAP_SYS_ADMIN, and it still stands for the other two.
    let is_admin = has(Capability::CAP_SYS_ADMIN);
    let wanted = [
        ("CAP_BPF", has(Capability::CAP_BPF) || is_admin),
        ("CAP_NET_ADMIN", has(Capability::CAP_NET_ADMIN)),
        ("CAP_PERFMON", has(Capability::CAP_PERFMON) || is_admin),
        ("CAP_SYS_ADMIN", is_admin),
    ];
    let describe = |(name, present): (&'static str, bool)| Facility {
        name,
        present,
        required: true,
        how: match present {
            true => "effective".to_owned(),
            false => format!("{name} is missing from the effective set: run as root, or add it"),
        },
        lost: match name {
            "CAP_SYS_ADMIN" => "what is pinned and attached cannot be read back",
            _ => ALL,
        },
    };
    wanted.map(describe).into()
}

/// A cgroup2 to attach to.
pub(super) fn cgroup2(named: Option<&Path>) -> Facility {
    let name = "cgroup2";
    match Cgroup::look(named) {
        Ok(cgroup) => {
            let doubt = cgroup.doubt();
            let said = format!("found {}", cgroup.path.display());
            let how = match doubt {
                Some(doubt) => format!("{said}, but {doubt}"),
                None => said,
            };
            Facility { name, present: true, required: true, how, lost: ALL }
        }
        // Without a name there is nothing mounted yet, which the agent does.
        Err(error) if named.is_none() => {
            let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
            let present = known.contains("cgroup2");
            let how = if present { "not mounted; the agent will" } else { "unknown file system" };
            Facility { name, present, required: true, how: format!("{how} ({error})"), lost: ALL }
        }
        Err(error) => {
            let how = describe(&error);
            Facility { name, present: false, required: true, how, lost: ALL }
        }
    }
}

/// A place for pins.
pub(super) fn bpffs(pin_path: &Path) -> Facility {
    let parent = bpffs::parent_of(pin_path);
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let result = match FileSystem::of(&parent) {
        Ok(FileSystem::BPF) => Ok(format!("{} is one", parent.display())),
        _ if known.lines().any(|line| line.ends_with("\tbpf")) => {
            Ok(format!("{} is none yet; the agent mounts one", parent.display()))
        }
        Ok(_) => Err(io::Error::other("the kernel knows no file system bpf")),
        Err(error) => Err(error),
    };
    facility("bpffs", "statfs", result, "nothing survives the agent, so it does not start")
}

/// A hook takes a program.
pub(super) fn hook(hook: Hook) -> Facility {
    let result = sys::load_bare(hook.kind as u32, hook.attach_type, &code::nothing());
    facility(hook.name, "load a program", result.map(done), ALL)
}

/// The one hook that the programs can do without.
pub(super) fn sock_release() -> Facility {
    let lost = "a connect of a UDP socket to a Service takes 400 ns longer";
    optional(Facility { lost, ..hook(SOCK_RELEASE) })
}

fn done(_: OwnedFd) -> String {
    String::new()
}

/// A command that exists complains about the descriptor, one that does not about the command.
fn expect_bad_descriptor(result: io::Result<()>) -> io::Result<String> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(String::new()),
        Err(error) => Err(error),
        Ok(()) => Ok(String::new()),
    }
}

/// Links to cgroups. The program is a real one: a kernel that knows other links than those to
/// cgroups complains about the descriptor of a program that is none.
pub(super) fn links() -> Facility {
    let result = sys::load_sock_addr(CONNECT4, &code::nothing()).and_then(|program| {
        expect_bad_descriptor(sys::link_create(program.as_raw_fd(), -1, CONNECT4).map(drop))
    });
    let lost = "no Service keeps being served while the agent restarts";
    facility("cgroup links (5.7)", "BPF_LINK_CREATE to no cgroup", result, lost)
}

/// Their update.
pub(super) fn link_update() -> Facility {
    let result = expect_bad_descriptor(sys::link_update(-1, -1));
    let lost = "programs cannot be replaced without a gap";
    facility("link update (5.7)", "BPF_LINK_UPDATE of no link", result, lost)
}

/// Storage in sockets.
pub(super) fn sk_storage() -> Facility {
    let load = || -> io::Result<OwnedFd> {
        let btf = sys::load_btf(&code::int_btf())?;
        let map = sys::map_create(MapSpec {
            kind: SK_STORAGE,
            key_size: 4,
            value_size: 4,
            flags: NO_PREALLOC,
            btf_fd: btf.as_raw_fd() as u32,
            btf_key_type: 1,
            btf_value_type: 1,
            ..MapSpec::default()
        })?;
        sys::load_sock_addr(CONNECT4, &code::sk_storage(&map))
    };
    let lost = "applications would see the endpoint as their peer";
    facility("socket storage (5.3)", "load a program that uses it", load().map(done), lost)
}

/// Which network namespace calls.
pub(super) fn netns_cookie() -> Facility {
    let code = code::with_context(code::GET_NETNS_COOKIE);
    let result = sys::load_sock_addr(CONNECT4, &code);
    let lost = "affinity has no client to remember";
    facility("bpf_get_netns_cookie (5.7)", "load a program that uses it", result.map(done), lost)
}

/// Arrays in our memory.
pub(super) fn mmapable_arrays() -> Facility {
    let create = || -> io::Result<String> {
        let array = sys::map_create(MapSpec { flags: MMAPABLE, ..small(ARRAY, 8) })?;
        sys::try_mapping(array)?;
        Ok(String::new())
    };
    let lost = "lists cannot be replaced in one step";
    facility("mmapable arrays (5.5)", "map one and store a word", create(), lost)
}

/// One entry.
fn small(kind: u32, value_size: u32) -> MapSpec {
    MapSpec { kind, key_size: 4, value_size, max_entries: 1, ..MapSpec::default() }
}

/// Many entries in one call.
pub(super) fn batches() -> Facility {
    let update = || -> io::Result<String> {
        let map = sys::map_create(small(HASH, 4))?;
        let (_, result) = sys::map_update_batch(map.as_fd(), &[1; 4], &[1; 4], 1);
        result.map(|()| String::new())
    };
    let lost = "the first fill would take seconds";
    facility("batch updates of maps (5.6)", "update a hash map", update(), lost)
}

/// Events.
pub(super) fn ring_buffer() -> Facility {
    let spec = MapSpec { kind: RING_BUFFER, max_entries: 65_536, ..MapSpec::default() };
    let lost = "the programs cannot tell what they do";
    facility("ring buffer (5.8)", "create one", sys::map_create(spec).map(done), lost)
}

/// Grace periods.
pub(super) fn grace_periods() -> Facility {
    let (tried, result) = match sys::has_global_membarrier() {
        Ok(true) => ("MEMBARRIER_CMD_QUERY", Ok(String::new())),
        // A kernel with nohz_full has no such command.
        Ok(false) | Err(_) => {
            let said = "in place of membarrier, which this kernel lacks (nohz_full?)".to_owned();
            ("change a map of maps", sys::wait_for_programs().map(|()| said))
        }
    };
    let lost = "nobody could say when space is free again";
    facility("grace periods (membarrier 4.3, map of maps 4.20)", tried, result, lost)
}

/// The name under which [`set_retval`] is found.
pub(super) const SET_RETVAL: &str = "bpf_set_retval (5.18)";

/// Refusals.
pub(super) fn set_retval() -> Facility {
    let result = sys::load_sock_addr(CONNECT4, &code::set_retval());
    let lost = "a Service without endpoints is left to the packet path to refuse";
    optional(facility(SET_RETVAL, "load a program that uses it", result.map(done), lost))
}

/// The name under which [`socket_cookie`] is found.
pub(super) const SOCKET_COOKIE: &str = "SO_NETNS_COOKIE (5.14)";

/// Which network namespace is ours.
pub(super) fn socket_cookie() -> Facility {
    let cookie = UdpSocket::bind(("0.0.0.0", 0))
        .and_then(|socket| sys::netns_cookie(&socket.into()))
        .map(|cookie| format!("this namespace is {cookie}"));
    let lost = "NodePorts on loopback addresses are left to the packet path";
    optional(facility(SOCKET_COOKIE, "getsockopt", cookie, lost))
}

/// The programs themselves, with the maps that are pinned, and where there are none with new ones
/// that are pinned nowhere: they vanish with what is returned.
///
/// Beside tables of other sizes the new ones are small: an agent may be at work there, whose
/// container has no memory for a second set.
pub(super) fn programs(options: &ConnectOptions, extras: Extras) -> (Facility, Option<Loaded>) {
    let pins = Pins::new(options.pin_path.clone());
    let is_beside = pins.has_only_other_tables(&options.sizes);
    let sizes = if is_beside { TableSizes::equal(64) } else { options.sizes };
    let (result, loaded) = match Loaded::load(&pins, &sizes, extras) {
        Ok(loaded) => (Ok(String::new()), Some(loaded)),
        Err(error) => (Err(io::Error::other(describe(&error))), None),
    };
    let programs = facility("programs of Shunt", "load them with their maps", result, ALL);
    (programs, loaded.filter(|_| !is_beside))
}

/// An error and its causes in one line.
fn describe(error: &dyn Error) -> String {
    let mut text = in_one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {}", in_one_line(&error.to_string()));
        cause = error.source();
    }
    text
}

/// What the verifier counts after its last word on a program.
const COUNTS: [&str; 4] = ["processed ", "verification time ", "stack depth ", "max_states"];

/// The verifier's words can be thousands of lines: every instruction that it looked at, then what
/// it does not like, then what it counted. The lines before the counts say why.
fn in_one_line(text: &str) -> String {
    let is_count = |line: &str| COUNTS.iter().any(|count| line.starts_with(count));
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_count(line)).collect();
    match lines.as_slice() {
        [first, _, .., instruction, reason] => format!("{first} … {instruction}; {reason}"),
        _ => lines.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifiers_reason_outlives_its_log() {
        let check = |text, expected| assert_eq!(in_one_line(text), expected);
        check("cannot open /a/b", "cannot open /a/b");
        check(
            "cannot load: back-edge from insn 90 to 12\nprocessed 0 insns (limit 1000000)\n",
            "cannot load: back-edge from insn 90 to 12",
        );
        check(
            "cannot load: 0: R1=ctx\n0: (bf) r6 = r1\n1: (79) r1 = *(u64 *)(r1 +8)\n\
             invalid bpf_context access off=8 size=8\nprocessed 2 insns\nstack depth 0\n",
            "cannot load: 0: R1=ctx … 1: (79) r1 = *(u64 *)(r1 +8); \
             invalid bpf_context access off=8 size=8",
        );
    }
}
