//! Addresses as numbers.

/// An IPv6 address, or an IPv4 address in its v4-mapped form (`::ffff:a.b.c.d`), as a number.
///
/// Host byte order, so that the order of numbers is the order of addresses: lists are sorted by
/// it and searched by halves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The upper 64 bits.
    pub hi: u64,
    /// The lower 64 bits.
    pub lo: u64,
}

/// The prefix of v4-mapped addresses, as the upper half of [`Address::lo`].
const V4_MAPPED: u64 = 0xffff_0000_0000;

impl Address {
    /// From an IPv4 address in network byte order, as in `bpf_sock_addr::user_ip4`.
    #[must_use]
    #[inline(always)]
    pub const fn from_ip4(network_order: u32) -> Self {
        Self { hi: 0, lo: V4_MAPPED | u32::from_be(network_order) as u64 }
    }

    /// From four words in network byte order, as in `bpf_sock_addr::user_ip6`.
    #[must_use]
    #[inline(always)]
    pub const fn from_ip6(words: [u32; 4]) -> Self {
        Self {
            hi: (u32::from_be(words[0]) as u64) << 32 | u32::from_be(words[1]) as u64,
            lo: (u32::from_be(words[2]) as u64) << 32 | u32::from_be(words[3]) as u64,
        }
    }

    /// From the 16 bytes of an IPv6 address or of a v4-mapped one.
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(octets);
        Self { hi: (number >> 64) as u64, lo: number as u64 }
    }

    /// The 16 bytes of the address.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        ((self.hi as u128) << 64 | self.lo as u128).to_be_bytes()
    }

    /// Whether this is an IPv4 address.
    #[must_use]
    #[inline(always)]
    pub const fn is_ip4(self) -> bool {
        self.hi == 0 && self.lo >> 32 == V4_MAPPED >> 32
    }

    /// The IPv4 address in network byte order; meaningful only if [`Self::is_ip4`].
    #[must_use]
    #[inline(always)]
    pub const fn ip4(self) -> u32 {
        (self.lo as u32).to_be()
    }

    /// Four words in network byte order.
    #[must_use]
    #[inline(always)]
    pub const fn ip6(self) -> [u32; 4] {
        [
            ((self.hi >> 32) as u32).to_be(),
            (self.hi as u32).to_be(),
            ((self.lo >> 32) as u32).to_be(),
            (self.lo as u32).to_be(),
        ]
    }

    /// Whether this is 127.0.0.1 or ::1.
    #[must_use]
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        self.hi == 0 && (self.lo == V4_MAPPED | 0x7f00_0001 || self.lo == 1)
    }
}
