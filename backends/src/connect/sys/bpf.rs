//! bpf(2): maps, links, pins and what the kernel says of them. [`super::load`] brings programs in.
//!
//! Attributes are the prefixes of `union bpf_attr` that a command reads; the kernel takes the rest
//! as zero.

use std::{
    ffi::{CString, c_long},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const MAP_CREATE: u32 = 0;
const MAP_UPDATE_ELEM: u32 = 2;
const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const PROG_GET_FD_BY_ID: u32 = 13;
const MAP_GET_FD_BY_ID: u32 = 14;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;
const MAP_FREEZE: u32 = 22;
const MAP_LOOKUP_BATCH: u32 = 24;
const MAP_UPDATE_BATCH: u32 = 26;
const MAP_DELETE_BATCH: u32 = 27;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_DETACH: u32 = 34;

/// `BPF_F_QUERY_EFFECTIVE`: the programs that run for a cgroup, its ancestors' included.
const QUERY_EFFECTIVE: u32 = 1;
/// `BPF_MAP_TYPE_HASH`.
pub(in super::super) const HASH: u32 = 1;
/// `BPF_MAP_TYPE_ARRAY`.
pub(in super::super) const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_SK_STORAGE`.
pub(in super::super) const SK_STORAGE: u32 = 24;
/// `BPF_MAP_TYPE_RINGBUF`.
pub(in super::super) const RING_BUFFER: u32 = 27;
/// `BPF_F_NO_PREALLOC`.
pub(in super::super) const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`.
pub(in super::super) const MMAPABLE: u32 = 1 << 10;

/// Makes the system call.
///
/// # Safety
///
/// `attr` must be `repr(C)` without padding and a prefix of the attributes of `command`; every
/// address in it must be valid for what the command does there, for the duration of the call.
unsafe fn bpf<T>(command: u32, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a live, exclusively borrowed object of the size that is passed; what it
    // points to is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            c_long::from(command),
            std::ptr::from_mut(attr),
            size_of::<T>() as c_long,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// As [`bpf`], for commands that return a descriptor.
///
/// # Safety
///
/// As [`bpf`], and the command must return a new descriptor.
pub(super) unsafe fn bpf_fd<T>(command: u32, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What `BPF_MAP_CREATE` is told; BTF is needed for socket storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct MapSpec {
    /// `enum bpf_map_type`.
    pub(in super::super) kind: u32,
    /// Bytes of a key.
    pub(in super::super) key_size: u32,
    /// Bytes of a value.
    pub(in super::super) value_size: u32,
    /// Entries.
    pub(in super::super) max_entries: u32,
    /// `BPF_F_…`.
    pub(in super::super) flags: u32,
    /// What a map of maps holds, by example.
    pub(in super::super) inner_map_fd: u32,
    /// Unused here.
    pub(in super::super) numa_node: u32,
    /// For people; see [`object_name`].
    pub(in super::super) name: [u8; 16],
    /// Unused here.
    pub(in super::super) ifindex: u32,
    /// The BTF object.
    pub(in super::super) btf_fd: u32,
    /// The key's type in it.
    pub(in super::super) btf_key_type: u32,
    /// The value's type in it.
    pub(in super::super) btf_value_type: u32,
}

/// A name as the kernel keeps it: 15 bytes and an end.
pub(in super::super) fn object_name(name: &str) -> [u8; 16] {
    let mut kept = [0; 16];
    kept.iter_mut().zip(name.bytes().take(15)).for_each(|(kept, byte)| *kept = byte);
    kept
}

/// Creates a map.
pub(in super::super) fn map_create(mut spec: MapSpec) -> io::Result<OwnedFd> {
    // SAFETY: MapSpec is the prefix of the attributes of this command and holds no address.
    unsafe { bpf_fd(MAP_CREATE, &mut spec) }
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Waits until every program that runs now has ended: a change of a map of maps does, so that user
/// space knows that nobody uses the map that was there before (`maybe_wait_bpf_programs` in
/// kernel/bpf/syscall.c).
///
/// # Minimum kernel version
///
/// 4.20, <https://git.kernel.org/linus/1ae80cf31938c8f77c37a29bbe29e7f1cd492be8>.
pub(in super::super) fn wait_for_programs() -> io::Result<()> {
    const ARRAY_OF_MAPS: u32 = 12;
    let one = MapSpec { key_size: 4, value_size: 4, max_entries: 1, ..MapSpec::default() };
    let inner = map_create(MapSpec { kind: ARRAY, ..one })?;
    let inner_map_fd = inner.as_raw_fd() as u32;
    let outer = map_create(MapSpec { kind: ARRAY_OF_MAPS, inner_map_fd, ..one })?;
    let key = 0_u32;
    let mut attr = Element {
        map_fd: outer.as_raw_fd() as u32,
        key: (&raw const key) as u64,
        value: (&raw const inner_map_fd) as u64,
        ..Element::default()
    };
    // SAFETY: key and value are readable for the map's sizes, four bytes each, and outlive the
    // call.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Writes the only element of an array.
///
/// # Errors
///
/// Fails if it is no array of such values, or the kernel refuses.
pub(in super::super) fn map_fill(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let info = map_info(map)?;
    if (info.kind, info.max_entries, info.value_size as usize) != (ARRAY, 1, value.len()) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let key = 0_u32;
    let mut attr = Element {
        map_fd: map.as_raw_fd() as u32,
        key: (&raw const key) as u64,
        value: value.as_ptr() as u64,
        ..Element::default()
    };
    // SAFETY: the key of an array is four bytes, and the value has the size that the kernel has
    // just told; both outlive the call, which only reads them.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Takes from user space the right to write a map, for good: the verifier then knows what is in it
/// if programs have no such right either.
///
/// # Minimum kernel version
///
/// 5.2.
pub(in super::super) fn map_freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = [map.as_raw_fd() as u32];
    // SAFETY: the map; no address.
    unsafe { bpf(MAP_FREEZE, &mut attr) }.map(drop)
}

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Writes entries of a hash map in order; the number written and why it was not all.
pub(in super::super) fn map_update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: u32,
) -> (u32, io::Result<()>) {
    let mut attr = Batch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: map.as_raw_fd() as u32,
        ..Batch::default()
    };
    // SAFETY: keys and values hold `count` entries of the map's sizes (`Maps` checks) and the
    // kernel only reads them.
    let result = unsafe { bpf(MAP_UPDATE_BATCH, &mut attr) };
    finish_batch(&attr, count, result)
}

/// Deletes entries of a hash map in order, up to the first that is not there.
pub(in super::super) fn map_delete_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    count: u32,
) -> (u32, io::Result<()>) {
    let mut attr = Batch {
        keys: keys.as_ptr() as u64,
        count,
        map_fd: map.as_raw_fd() as u32,
        ..Batch::default()
    };
    // SAFETY: `keys` holds `count` keys of the map's size (`Maps` checks), only read.
    let result = unsafe { bpf(MAP_DELETE_BATCH, &mut attr) };
    finish_batch(&attr, count, result)
}

/// The kernel writes how many entries it has done back to `count`, also after an error.
fn finish_batch(attr: &Batch, count: u32, result: io::Result<i32>) -> (u32, io::Result<()>) {
    match result {
        Ok(_) => (count, Ok(())),
        // Before the first entry the kernel may fail without having touched `count`.
        Err(error) if attr.count >= count => (0, Err(error)),
        Err(error) => (attr.count, Err(error)),
    }
}

/// Reads up to `count` entries after `position`, which is moved on. Says how many were read and
/// whether there may be more.
pub(in super::super) fn map_lookup_batch(
    map: BorrowedFd<'_>,
    position: &mut Option<[u8; 32]>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
    let mut next = [0; 32];
    let mut attr = Batch {
        in_batch: position.as_ref().map_or(0, |bytes| bytes.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map_fd: map.as_raw_fd() as u32,
        ..Batch::default()
    };
    // SAFETY: keys and values have room for `count` entries of the map's sizes (`Maps` checks);
    // the position is a bucket number, or for an array a key, both of at most 32 bytes.
    let result = unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) };
    *position = Some(next);
    match result {
        Ok(_) => Ok((attr.count, true)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count, false)),
        Err(error) => Err(error),
    }
}

#[repr(C)]
#[derive(Default)]
struct Object {
    pathname: u64,
    fd: u32,
    file_flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// Opens what is pinned at `path`.
pub(in super::super) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = Object { pathname: path.as_ptr() as u64, ..Object::default() };
    // SAFETY: `pathname` is a C string that outlives the call.
    unsafe { bpf_fd(OBJ_GET, &mut attr) }
}

/// Pins an object.
pub(in super::super) fn object_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let fd = object.as_raw_fd() as u32;
    let mut attr = Object { pathname: path.as_ptr() as u64, fd, ..Object::default() };
    // SAFETY: `pathname` is a C string that outlives the call.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map(drop)
}

#[repr(C)]
struct InfoRequest {
    fd: u32,
    len: u32,
    info: u64,
}

/// The kernel's description of an object, as the first words of its info structure.
fn info<const N: usize>(object: BorrowedFd<'_>, info: &mut [u32; N]) -> io::Result<()> {
    let mut attr = InfoRequest {
        fd: object.as_raw_fd() as u32,
        len: size_of_val(info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: `info` is writable for `len` bytes; the addresses in it, which the kernel also
    // writes to, are zero or the caller's own.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

/// What a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct MapInfo {
    /// `enum bpf_map_type`.
    pub(in super::super) kind: u32,
    /// Its id.
    pub(in super::super) id: u32,
    /// Bytes of a key.
    pub(in super::super) key_size: u32,
    /// Bytes of a value.
    pub(in super::super) value_size: u32,
    /// Entries.
    pub(in super::super) max_entries: u32,
}

/// Asks what a map is.
pub(in super::super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut words = [0; 6];
    info(map, &mut words)?;
    let [kind, id, key_size, value_size, max_entries, _flags] = words;
    Ok(MapInfo { kind, id, key_size, value_size, max_entries })
}

/// The id of a map.
pub(in super::super) fn map_id(map: &OwnedFd) -> io::Result<u32> {
    map_info(map.as_fd()).map(|info| info.id)
}

/// The name of the map with this id, at most 15 bytes of it.
pub(in super::super) fn map_name(id: u32) -> io::Result<String> {
    let mut attr = [id, 0, 0];
    // SAFETY: id, next id and open flags; no address.
    let map = unsafe { bpf_fd(MAP_GET_FD_BY_ID, &mut attr) }?;
    // `struct bpf_map_info` has the name in the four words from the seventh on.
    let mut words = [0_u32; 10];
    info(map.as_fd(), &mut words)?;
    let bytes = words.iter().skip(6).flat_map(|word| word.to_ne_bytes());
    let name: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// What a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct LinkInfo {
    /// The program's id.
    pub(in super::super) program: u32,
    /// The cgroup's id, 0 if the link was detached.
    pub(in super::super) cgroup: u64,
}

/// Asks what a link is. Only for links to cgroups.
pub(in super::super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut words = [0_u32; 8];
    info(link, &mut words)?;
    let [_kind, _id, program, _, low, high, _attach_type, _] = words;
    // `struct bpf_link_info` has the cgroup's id as a u64 at offset 16 in native byte order.
    let [a, b, c, d] = low.to_ne_bytes();
    let [e, f, g, h] = high.to_ne_bytes();
    Ok(LinkInfo { program, cgroup: u64::from_ne_bytes([a, b, c, d, e, f, g, h]) })
}

/// The ids of the maps that a program uses.
pub(in super::super) fn program_maps(program: u32) -> io::Result<Vec<u32>> {
    let mut attr = [program, 0, 0];
    // SAFETY: id, next id and open flags; no address.
    let program = unsafe { bpf_fd(PROG_GET_FD_BY_ID, &mut attr) }?;
    let mut ids = vec![0_u32; 64];
    // `struct bpf_prog_info`: nr_map_ids is word 13, the address of map_ids words 14 and 15.
    let address = (ids.as_mut_ptr() as u64).to_ne_bytes();
    let [a, b, c, d, e, f, g, h] = address;
    let mut words = [0_u32; 16];
    words[13] = ids.len() as u32;
    words[14] = u32::from_ne_bytes([a, b, c, d]);
    words[15] = u32::from_ne_bytes([e, f, g, h]);
    info(program.as_fd(), &mut words)?;
    ids.truncate(words[13] as usize);
    Ok(ids)
}

/// The id of a program.
pub(in super::super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut words = [0; 2];
    info(program, &mut words)?;
    Ok(words[1])
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

/// The programs that run for a cgroup at a hook, its ancestors' included.
pub(in super::super) fn effective_programs(
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; 256];
    let mut attr = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type,
        query_flags: QUERY_EFFECTIVE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..Query::default()
    };
    // SAFETY: `prog_ids` has room for `prog_cnt` ids.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// Attaches a program to a cgroup for as long as the link is open or pinned.
///
/// Flags are 0: a cgroup link is multi by itself, and old kernels refuse the flag that says so.
pub(in super::super) fn link_create(
    program: RawFd,
    cgroup: RawFd,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attr = [program as u32, cgroup as u32, attach_type, 0];
    // SAFETY: program, target, attach type and flags; no address.
    unsafe { bpf_fd(LINK_CREATE, &mut attr) }
}

/// Replaces the program of a link in one step.
pub(in super::super) fn link_update(link: RawFd, program: RawFd) -> io::Result<()> {
    let mut attr = [link as u32, program as u32, 0, 0];
    // SAFETY: link, new program, flags and old program; no address.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link at once; closing the last descriptor does so only some time later.
pub(in super::super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = [link.as_raw_fd() as u32];
    // SAFETY: the link; no address.
    unsafe { bpf(LINK_DETACH, &mut attr) }.map(drop)
}
