//! ClientIP session affinity.

use crate::{
    address::Address,
    tables::{SEAL, mix},
};

/// Key of map `AFFINITY` (LRU hash): a client is a network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    /// The cookie of the client's network namespace; the host is one client.
    pub netns: u64,
    /// The ServicePort's number; never given out twice, so that a new ServicePort meets no old
    /// memory.
    pub service: u32,
    /// Always 0.
    pub zero: u32,
}

/// Value of map `AFFINITY`; believed only if key and seal fit, as with frontends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// The key again.
    pub key: AffinityKey,
    /// The endpoint's address.
    pub address: Address,
    /// When it was last used, nanoseconds of CLOCK_MONOTONIC.
    pub used: u64,
    /// The endpoint's port, host byte order.
    pub port: u16,
    /// Always 0.
    pub zero: u16,
    /// [`Self::sealed`].
    pub seal: u32,
}

impl Affinity {
    /// The seal over everything else.
    #[must_use]
    #[inline(always)]
    pub const fn sealed(&self) -> u32 {
        let key = mix(mix(SEAL, self.key.netns as u32), self.key.service);
        let hi = mix(mix(key, (self.address.hi >> 32) as u32), self.address.hi as u32);
        let lo = mix(mix(hi, (self.address.lo >> 32) as u32), self.address.lo as u32);
        let used = mix(mix(lo, (self.used >> 32) as u32), self.used as u32);
        mix(used, self.port as u32)
    }
}
