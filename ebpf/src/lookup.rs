//! Is this address a frontend's?

use core::ptr;

use shunt_ebpf::{
    address::Address,
    control::Control,
    tables::{FrontendKey4, FrontendKey6, NodePort, Target, node_port_index},
};

use crate::{
    call::Call,
    maps::{CONTROL, FRONTENDS4, FRONTENDS6, NODE_ADDRESSES, NODEPORTS},
};

/// How often a lookup is tried while user space writes. One false miss in 40 million lookups was
/// measured under a hammering writer; four in a row do not happen.
const TRIES: u32 = 4;

/// What serves `address` and `port`, or `None` if it is no frontend (or, after all tries, still in
/// doubt).
#[inline(always)]
pub(crate) fn target(call: &Call, address: Address, port: u16) -> Option<Target> {
    for _ in 0..TRIES {
        let before = epoch();
        if let Some(target) =
            frontend(address, port, call.protocol()).or_else(|| node_port(call, address, port))
        {
            return Some(target);
        }
        // A miss proves something only if no hash map was being written meanwhile.
        if before & 1 == 0 && before == epoch() {
            return None;
        }
    }
    None
}

/// The element of `CONTROL`.
#[inline(always)]
pub(crate) fn control() -> Option<*const Control> {
    CONTROL.get_ptr(0)
}

#[inline(always)]
fn epoch() -> u64 {
    let Some(control) = control() else { return 0 };
    // SAFETY: `control` points to the array's element; user space stores the word while we load
    // it, so the load must not be repeated or left out.
    unsafe { ptr::read_volatile(&raw const (*control).epoch) }
}

#[inline(always)]
fn frontend(address: Address, port: u16, protocol: u8) -> Option<Target> {
    if address.is_ip4() {
        let key = FrontendKey4 { address: address.ip4(), port, protocol, zero: 0 };
        let found = FRONTENDS4.get_ptr(key)?;
        // SAFETY: the kernel may reuse the element's memory for another key while we copy it;
        // key and seal are checked on the copy, which nobody else can change.
        let copy = unsafe { ptr::read_volatile(found) };
        (copy.key == key && copy.seal == key.seal(copy.target)).then_some(copy.target)
    } else {
        let key = FrontendKey6 { address: address.ip6(), port, protocol, zero: 0 };
        let found = FRONTENDS6.get_ptr(key)?;
        // SAFETY: as above.
        let copy = unsafe { ptr::read_volatile(found) };
        (copy.key == key && copy.seal == key.seal(copy.target)).then_some(copy.target)
    }
}

/// What serves `address` and `port` as a NodePort. One in use costs a second lookup: is the address
/// one of this node's?
#[inline(always)]
pub(crate) fn node_port(call: &Call, address: Address, port: u16) -> Option<Target> {
    let index = node_port_index(address.is_ip4(), call.is_udp(), port);
    let slot: *const NodePort = NODEPORTS.get_ptr(index)?;
    // SAFETY: `slot` points to the array's element; user space stores the word while we load it.
    let target = unsafe { ptr::read_volatile(&raw const (*slot).target) };
    if target == Target::default() {
        return None;
    }
    let answers = NODE_ADDRESSES.get_ptr(address).is_some()
        || (address.is_loopback() && call.netns() == host_netns());
    answers.then_some(target)
}

/// The cookie of the host's network namespace; 0, which no namespace has, if unknown.
#[inline(always)]
fn host_netns() -> u64 {
    let Some(control) = control() else { return 0 };
    // SAFETY: as in `epoch`.
    unsafe { ptr::read_volatile(&raw const (*control).host_netns) }
}
