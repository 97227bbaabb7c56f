//! What is in the object, and what is said where it or the kernel will not do.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya_obj::{
    ProgramSection,
    generated::{bpf_attach_type, bpf_insn},
};
use shunt_ebpf::{
    address::Address,
    affinity::{Affinity, AffinityKey},
    control::Control,
    socket::{Connected, Peers, Seat},
    tables::{
        Endpoint, Frontend4, Frontend6, FrontendKey4, FrontendKey6, List, NODE_PORTS, NodePort,
        ServiceName,
    },
};

use super::{
    super::{
        bpffs,
        hook::{HOOKS, HookKind},
        pins::{SOCKET_MAPS, TABLE_MAPS},
        program::{Extras, Loaded, sized},
        sizes::TableSizes,
        sys::{self, ARRAY, HASH, MMAPABLE, MapSpec, NO_PREALLOC, RING_BUFFER, SK_STORAGE},
        tests::Place,
    },
    Object, ObjectError,
    linked::Linked,
    map::spec,
};

const LRU_HASH: u32 = 9;
const RDONLY_PROG: u32 = 1 << 7;

/// An error and its causes.
fn told(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A descriptor of something else.
fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn small() -> TableSizes {
    TableSizes::equal(64)
}

#[test]
fn each_hook_has_a_program_of_its_kind_and_no_program_is_without_a_hook() {
    let Object(object) = Object::read().unwrap();
    let mut found: Vec<(&str, HookKind, u32)> = object
        .programs
        .iter()
        .map(|(name, program)| match program.section {
            ProgramSection::CgroupSockAddr { attach_type } => {
                (name.as_str(), HookKind::SockAddr, bpf_attach_type::from(attach_type) as u32)
            }
            ProgramSection::CgroupSock { attach_type } => {
                (name.as_str(), HookKind::Sock, bpf_attach_type::from(attach_type) as u32)
            }
            ref other => panic!("{name} is {other:?}"),
        })
        .collect();
    let mut wanted: Vec<_> =
        HOOKS.iter().map(|hook| (hook.program, hook.kind, hook.attach_type)).collect();
    found.sort_unstable_by_key(|(name, ..)| *name);
    wanted.sort_unstable_by_key(|(name, ..)| *name);
    assert_eq!(found, wanted);
    assert!(object.programs.values().all(|program| program.license.to_bytes() == b"Dual MIT/GPL"));
}

#[test]
fn the_maps_have_the_shapes_that_user_space_knows() {
    let bytes = |key: usize, value: usize| (key as u32, value as u32);
    let index = |value| bytes(size_of::<u32>(), value);
    let wanted = [
        (".rodata", ARRAY, index(8), RDONLY_PROG),
        ("AFFINITY", LRU_HASH, bytes(size_of::<AffinityKey>(), size_of::<Affinity>()), 0),
        ("CONNECTED", SK_STORAGE, index(size_of::<Connected>()), NO_PREALLOC),
        ("CONTROL", ARRAY, index(size_of::<Control>()), MMAPABLE),
        ("ENDPOINTS", ARRAY, index(size_of::<Endpoint>()), MMAPABLE),
        ("EVENTS", RING_BUFFER, (0, 0), 0),
        ("FRONTENDS4", HASH, bytes(size_of::<FrontendKey4>(), size_of::<Frontend4>()), 0),
        ("FRONTENDS6", HASH, bytes(size_of::<FrontendKey6>(), size_of::<Frontend6>()), 0),
        ("LISTS", ARRAY, index(size_of::<List>()), MMAPABLE),
        ("NODEPORTS", ARRAY, index(size_of::<NodePort>()), MMAPABLE),
        ("NODE_ADDRESSES", HASH, bytes(size_of::<Address>(), 4), 0),
        ("PEERS", SK_STORAGE, index(size_of::<Peers>()), NO_PREALLOC),
        ("SEATS", ARRAY, index(size_of::<Seat>()), 0),
        ("SERVICES", HASH, bytes(4, size_of::<ServiceName>()), NO_PREALLOC),
    ];
    let Object(object) = Object::read().unwrap();
    let types = null();
    let specs: BTreeMap<&str, MapSpec> = object
        .maps
        .iter()
        .map(|(name, map)| (name.as_str(), spec(name, map, types.as_fd())))
        .collect();
    let found = specs
        .iter()
        .map(|(name, spec)| (*name, spec.kind, (spec.key_size, spec.value_size), spec.flags));
    assert!(found.eq(wanted), "{specs:#?}");
    for (name, spec) in &specs {
        // Where the kernel wants none, it refuses the map for the types.
        let has_types = ![".rodata", "EVENTS"].contains(name);
        assert_eq!(spec.btf_value_type != 0, has_types, "{name}");
        assert_eq!(spec.btf_fd == types.as_raw_fd() as u32, has_types, "{name}");
        let known = TABLE_MAPS.contains(name) || SOCKET_MAPS.contains(name);
        assert_eq!(known, *name != ".rodata", "{name} is pinned nowhere");
    }
    assert_eq!(specs["NODEPORTS"].max_entries, NODE_PORTS);
    assert_eq!([specs["CONNECTED"], specs["PEERS"]].map(|spec| spec.max_entries), [0; 2]);
}

#[test]
fn sizes_and_globals_are_those_that_were_set() {
    let mut object = Object::read().unwrap();
    for (map, size) in small().by_map() {
        object.set_size(map, size).unwrap();
        assert_eq!(spec(map, &object.0.maps[map], null().as_fd()).max_entries, size, "{map}");
    }
    object.set_global("HAS_SET_RETVAL", &[1]).unwrap();
    object.set_global("SEAT_COUNT", &64_u32.to_ne_bytes()).unwrap();
    assert_eq!(object.0.maps[".rodata"].data(), [1, 0, 0, 0, 64, 0, 0, 0]);
}

#[test]
fn what_the_object_lacks_is_named() {
    let check = |error: ObjectError, expected: &[&str]| {
        let text = told(&error);
        assert!(expected.iter().all(|expected| text.contains(expected)), "{text}");
    };
    let mut object = Object::read().unwrap();
    let absent = object.set_global("NO_SUCH", &[1]).unwrap_err();
    check(absent, &["cannot set the global NO_SUCH", "not found"]);
    let misfit = object.set_global("SEAT_COUNT", &[1]).unwrap_err();
    check(misfit, &["cannot set the global SEAT_COUNT", "1"]);
    check(object.set_size("NO_SUCH", 1).unwrap_err(), &["the object has no map NO_SUCH"]);

    let mut parsed = object.0;
    parsed.programs.remove("connect6").unwrap();
    let linked = Linked { object: parsed, types: null(), maps: BTreeMap::new() };
    let [.., connect6] = HOOKS;
    check(linked.load(connect6).unwrap_err(), &["the object has no program connect6"]);
}

/// Otherwise the verifier would look at the branch that calls what the kernel lacks.
#[test]
fn nobody_can_change_a_global_any_more() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let mut object = sized(&small()).unwrap();
    object.set_global("SEAT_COUNT", &64_u32.to_ne_bytes()).unwrap();
    let linked = object.link(|_| None).unwrap();
    let globals = linked.maps[".rodata"].as_fd();
    let (mut key, mut value) = ([0; 4], [0; 8]);
    sys::map_lookup_batch(globals, &mut None, &mut key, &mut value, 1).unwrap();
    assert_eq!(value, [0, 0, 0, 0, 64, 0, 0, 0]);
    let refused = sys::map_fill(globals, &[1; 8]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    // A value that is shorter than what the kernel would read is not offered to it.
    let misfit = sys::map_fill(globals, &[1; 4]).unwrap_err();
    assert_eq!(misfit.kind(), io::ErrorKind::InvalidInput);
}

/// With `r0 = r5` first, which nobody has set, and the counts of what the verifier has seen last.
#[test]
fn the_verifiers_words_come_with_its_refusal() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let object = sized(&small()).unwrap();
    let mut linked = object.link(|_| None).unwrap();
    let [recvmsg4, .., connect4, _] = HOOKS;
    let key = linked.object.programs["connect4"].function_key();
    let main = linked.object.functions.get_mut(&key).unwrap();
    let mut first = bpf_insn { code: 0xbf, off: 0, imm: 0, ..main.instructions[0] };
    first.set_dst_reg(0);
    first.set_src_reg(5);
    main.instructions[0] = first;
    let text = told(&linked.load(connect4).unwrap_err());
    let expected = [
        "the kernel refuses program connect4: the verifier: ",
        "R5 !read_ok\n",
        "processed 1 insns",
        ": Permission denied (os error 13)",
    ];
    assert!(expected.iter().all(|expected| text.contains(expected)), "{text}");
    linked.load(recvmsg4).unwrap();

    // Types that are none.
    linked.object.btf = None;
    let refused = Object(linked.object).load_types().unwrap_err();
    assert!(told(&refused).starts_with("the kernel refuses the types of the object: "));
}

#[tokio::test]
async fn what_is_pinned_is_used_and_what_is_not_is_made() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    let (pins, sizes) = (place.pins(), small());
    bpffs::ensure(pins.root()).unwrap();
    let extras = Extras { set_retval: true, sock_release: true };
    let load = || Loaded::load(&pins, &sizes, extras);
    let id = |map| {
        let path = pins.map(map, &sizes).unwrap();
        sys::map_id(&sys::object_get(&path).unwrap()).unwrap()
    };
    let first = load().unwrap();
    assert!(first.programs.all().map(|(hook, ..)| hook).eq(HOOKS));
    assert!(!pins.root().exists(), "loading leaves no trace");
    let mut pinned = first.maps.pin(&pins.links()).unwrap();
    pinned.sort_unstable();
    let mut wanted = [TABLE_MAPS.as_slice(), &SOCKET_MAPS].concat();
    wanted.sort_unstable();
    assert_eq!(pinned, wanted);
    assert!(first.is_current(extras).unwrap());
    assert!(!first.is_current(Extras { set_retval: false, ..extras }).unwrap());

    let before = SOCKET_MAPS.map(id);
    std::fs::remove_file(pins.map("PEERS", &sizes).unwrap()).unwrap();
    assert!(first.is_current(extras).unwrap(), "what is not pinned can be");
    let second = load().unwrap();
    assert_eq!(second.maps.pin(&pins.links()).unwrap(), ["PEERS"]);
    assert!(second.is_current(extras).unwrap());
    assert!(!first.is_current(extras).unwrap(), "its programs remember peers elsewhere");
    let [connected, peers, seats] = SOCKET_MAPS.map(id);
    assert_eq!([connected, seats], [before[0], before[2]]);
    assert_ne!(peers, before[1]);
    for (hook, _, program) in second.programs.all() {
        let used = sys::program_maps(program).unwrap();
        let of_sockets = [connected, peers, seats].iter().any(|map| used.contains(map));
        assert!(of_sockets, "{}", hook.program);
    }

    // A directory in the place of a map is not covered up by a new one.
    std::fs::remove_file(pins.map("LISTS", &sizes).unwrap()).unwrap();
    std::fs::create_dir(pins.map("LISTS", &sizes).unwrap()).unwrap();
    let text = told(&load().unwrap_err());
    assert!(text.starts_with("cannot open the pinned map LISTS: "), "{text}");
}
