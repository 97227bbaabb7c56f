//! Smallest programs, by hand: each asks the verifier for one helper.

use std::os::fd::{AsRawFd as _, OwnedFd};

use super::super::sys::instruction;

/// `bpf_get_netns_cookie`.
pub(super) const GET_NETNS_COOKIE: i32 = 122;

const CONTEXT: u8 = 1;
/// Where `struct bpf_sock_addr` has the socket.
const SOCKET_OFFSET: i16 = 64;
const SK_STORAGE_GET: i32 = 107;
const SET_RETVAL: i32 = 187;

const fn set(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, 0, value)
}

const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

/// Lets every call go on.
pub(super) fn nothing() -> Vec<u64> {
    vec![set(0, 1), EXIT]
}

/// Calls a helper that takes the context.
pub(super) fn with_context(helper: i32) -> Vec<u64> {
    vec![call(helper), set(0, 1), EXIT]
}

/// `bpf_set_retval(-ECONNREFUSED)`.
pub(super) fn set_retval() -> Vec<u64> {
    vec![set(1, -libc::ECONNREFUSED), call(SET_RETVAL), set(0, 1), EXIT]
}

/// `bpf_sk_storage_get(map, context->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE)`.
pub(super) fn sk_storage(map: &OwnedFd) -> Vec<u64> {
    vec![
        instruction(0x79, 2, CONTEXT, SOCKET_OFFSET, 0),
        // A map by its descriptor: a load of 64 bits with source register 1, in two halves.
        instruction(0x18, 1, 1, 0, map.as_raw_fd()),
        0,
        set(3, 0),
        set(4, 1),
        call(SK_STORAGE_GET),
        set(0, 1),
        EXIT,
    ]
}

/// Type information with one type, a 32-bit `int`: socket storage wants to know what it holds.
pub(super) fn int_btf() -> Vec<u8> {
    let strings = b"\0int\0";
    let types: [u32; 4] = [1, 1 << 24, 4, 1 << 24 | 32];
    let header: [u32; 5] = [24, 0, size_of_val(&types) as u32, 16, strings.len() as u32];
    let mut btf = vec![0x9f, 0xeb, 1, 0];
    for number in header.into_iter().chain(types) {
        btf.extend_from_slice(&number.to_le_bytes());
    }
    btf.extend_from_slice(strings);
    btf
}
