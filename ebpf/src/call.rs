//! The call that a program sees, `struct bpf_sock_addr`.
//!
//! Every access is a volatile one of a word: the verifier accepts loads and stores of this
//! context only at the width of a field, and the compiler would join them.

use core::ptr;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use shunt_ebpf::{address::Address, socket::Tuple};

use crate::choose::Place;

/// The kernel's number of TCP.
const TCP: u8 = 6;
/// The kernel's number of UDP.
pub(crate) const UDP: u8 = 17;

/// One call of an application into the kernel, at one of the hooks.
pub(crate) struct Call {
    pub(crate) context: SockAddrContext,
    is_v6: bool,
}

impl Call {
    /// A call at the hook of family IPv6 (`is_v6`) or IPv4; an AF_INET6 socket can come to either.
    #[inline(always)]
    pub(crate) const fn new(context: SockAddrContext, is_v6: bool) -> Self {
        Self { context, is_v6 }
    }

    /// The IP protocol, 6 or 17 for calls that matter here. MPTCP is 6: it connects subflows.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u8 {
        // SAFETY: the context is valid as long as the program runs.
        unsafe { ptr::read_volatile(&raw const (*self.raw()).protocol) as u8 }
    }

    #[inline(always)]
    pub(crate) fn is_udp(&self) -> bool {
        self.protocol() == UDP
    }

    /// Whether Services can be dialled with the call's protocol (ping sockets come here too).
    #[inline(always)]
    pub(crate) fn is_balanced(&self) -> bool {
        matches!(self.protocol(), TCP | UDP)
    }

    /// The address of the other end, as the application passed it or will see it.
    #[inline(always)]
    pub(crate) fn address(&self) -> Address {
        if self.is_v6 {
            Address::from_ip6([self.word(0), self.word(1), self.word(2), self.word(3)])
        } else {
            // SAFETY: as in `protocol`.
            Address::from_ip4(unsafe { ptr::read_volatile(&raw const (*self.raw()).user_ip4) })
        }
    }

    /// The port of the other end, host byte order.
    #[inline(always)]
    pub(crate) fn port(&self) -> u16 {
        // SAFETY: as in `protocol`.
        let port = unsafe { ptr::read_volatile(&raw const (*self.raw()).user_port) };
        u16::from_be(port as u16)
    }

    /// Replaces address and port. An IPv4 address at a hook of IPv6 is written v4-mapped.
    #[inline(always)]
    pub(crate) fn redirect(&self, place: Place) {
        if self.is_v6 {
            let [word0, word1, word2, word3] = place.address.ip6();
            self.set_word(0, word0);
            self.set_word(1, word1);
            self.set_word(2, word2);
            self.set_word(3, word3);
        } else {
            let address = place.address.ip4();
            // SAFETY: as in `protocol`; the verifier lets these hooks write the field.
            unsafe { ptr::write_volatile(&raw mut (*self.raw()).user_ip4, address) };
        }
        let port = u32::from(place.port.to_be());
        // SAFETY: as above.
        unsafe { ptr::write_volatile(&raw mut (*self.raw()).user_port, port) };
    }

    /// The cookie of the caller's network namespace.
    #[inline(always)]
    pub(crate) fn netns(&self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_netns_cookie(self.context.as_ptr()) }
    }

    /// The socket's cookie, which no other socket ever has.
    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_socket_cookie(self.context.as_ptr()) }
    }

    /// The socket.
    #[inline(always)]
    pub(crate) fn socket(&self) -> *mut bpf_sock {
        // SAFETY: as in `protocol`; the union has one field of meaning.
        unsafe { ptr::read_volatile(&raw const (*self.raw()).__bindgen_anon_1.sk) }
    }

    /// Whether the socket is connected to `place` at this moment.
    #[inline(always)]
    pub(crate) fn is_connected_to(&self, place: Tuple) -> bool {
        let socket = self.socket();
        // SAFETY: the kernel holds the socket while the program runs.
        let port = unsafe { ptr::read_volatile(&raw const (*socket).dst_port) };
        let address = if self.is_v6 {
            // SAFETY: as above.
            let word0 = unsafe { ptr::read_volatile(&raw const (*socket).dst_ip6[0]) };
            // SAFETY: as above.
            let word1 = unsafe { ptr::read_volatile(&raw const (*socket).dst_ip6[1]) };
            // SAFETY: as above.
            let word2 = unsafe { ptr::read_volatile(&raw const (*socket).dst_ip6[2]) };
            // SAFETY: as above.
            let word3 = unsafe { ptr::read_volatile(&raw const (*socket).dst_ip6[3]) };
            Address::from_ip6([word0, word1, word2, word3])
        } else {
            // SAFETY: as above.
            Address::from_ip4(unsafe { ptr::read_volatile(&raw const (*socket).dst_ip4) })
        };
        u16::from_be(port) == place.port && address == place.address
    }

    #[inline(always)]
    const fn raw(&self) -> *mut bpf_sock_addr {
        self.context.sock_addr
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        // SAFETY: as in `protocol`; `index` is a constant below 4.
        unsafe { ptr::read_volatile(&raw const (*self.raw()).user_ip6[index]) }
    }

    #[inline(always)]
    fn set_word(&self, index: usize, word: u32) {
        // SAFETY: as in `redirect`; `index` is a constant below 4.
        unsafe { ptr::write_volatile(&raw mut (*self.raw()).user_ip6[index], word) };
    }
}
