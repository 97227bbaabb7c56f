//! Layouts as bytes and back.

use shunt_ebpf::{
    address::Address,
    affinity::{Affinity, AffinityKey},
    event::Event,
    socket::Seat,
    tables::{Endpoint, Frontend4, Frontend6, FrontendKey4, FrontendKey6, ServiceName},
};

/// A layout that programs and user space share.
///
/// # Safety
///
/// The type has no padding, and every pattern of its bytes is a value of it.
pub(in super::super) unsafe trait Plain: Copy + 'static {}

/// Implements [`Plain`] and checks at compile time that the fields leave no gap.
macro_rules! plain {
    ($($type:ty = $bytes:expr;)*) => { $(
        const _: () = assert!(size_of::<$type>() == $bytes);
        // SAFETY: `repr(C)` integers only, and their sizes add up to the size of the type, which
        // the assertion above compares.
        unsafe impl Plain for $type {}
    )* };
}

plain! {
    u32 = 4;
    u64 = 8;
    Address = 8 + 8;
    FrontendKey4 = 4 + 2 + 1 + 1;
    FrontendKey6 = 16 + 2 + 1 + 1;
    Frontend4 = 8 + 4 + 4;
    Frontend6 = 20 + 4 + 4;
    Endpoint = 16 + 2 + 6 + 8;
    ServiceName = 64 + 64 + 64;
    AffinityKey = 8 + 4 + 4;
    Affinity = 16 + 16 + 8 + 2 + 2 + 4;
    Seat = 4 + 4 + 8 + 56;
    Event = 8 + 8 + 24 + 24 + 4 + 1 + 1 + 2;
}

/// The bytes of values.
pub(in super::super) const fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` has no padding, so every byte is initialised; the slice keeps its lifetime.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The values that bytes hold; a remainder that is no whole value is ignored.
pub(in super::super) fn values_of<T: Plain>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.chunks_exact(size_of::<T>()).map(|chunk| {
        // SAFETY: the chunk has the size of T, every pattern of which is a value; the read is
        // unaligned.
        unsafe { chunk.as_ptr().cast::<T>().read_unaligned() }
    })
}
