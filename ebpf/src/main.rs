//! The cgroup programs: Services are balanced at the application's own `connect()`.
//!
//! Read in the order of a call: a hook ([`connect`], [`sendmsg`]) asks [`lookup`] whether the
//! address is a frontend's, lets [`choose`] pick an endpoint of its list, remembers both for the
//! socket ([`connected`], [`peers`]) and replaces the address ([`call`]).
//! On the way back, [`recvmsg`] and [`getpeername`] show what the application dialled.
//! At the end, [`sock_release`] clears what does not go with the socket.
//!
//! Every program returns 1 to let the call go on.
//! What is in doubt goes on untranslated: the packet path answers.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "naming a field of what a raw pointer points to counts as an operation of its \
                  own beside the read that it is for"
    )
)]

#[cfg(target_arch = "bpf")]
mod call;
#[cfg(target_arch = "bpf")]
mod choose;
#[cfg(target_arch = "bpf")]
mod connect;
#[cfg(target_arch = "bpf")]
mod connected;
#[cfg(target_arch = "bpf")]
mod decide;
#[cfg(target_arch = "bpf")]
mod events;
#[cfg(target_arch = "bpf")]
mod getpeername;
#[cfg(target_arch = "bpf")]
mod lookup;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod number;
#[cfg(target_arch = "bpf")]
mod peers;
#[cfg(target_arch = "bpf")]
mod recvmsg;
#[cfg(target_arch = "bpf")]
mod seats;
#[cfg(target_arch = "bpf")]
mod sendmsg;
#[cfg(target_arch = "bpf")]
mod sock_release;
#[cfg(target_arch = "bpf")]
mod verdict;

/// The programs exist for the BPF target alone; this lets the host build the workspace whole.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// The kernel lends some helpers to GPL-compatible programs only; this string is its way to say
/// "MIT, and GPL-compatible".
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Nothing in the programs panics; were it otherwise, the verifier would reject this loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
