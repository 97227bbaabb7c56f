//! What programs write to the ring buffer `EVENTS`.

use crate::socket::Tuple;

/// One event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// The cookie of the caller's network namespace.
    pub netns: u64,
    /// What the application asked for.
    pub dialled: Tuple,
    /// Where it was sent; zero where it was not.
    pub endpoint: Tuple,
    /// The ServicePort's number.
    pub service: u32,
    /// One of the `KIND_` constants.
    pub kind: u8,
    /// 6 or 17.
    pub protocol: u8,
    /// Always 0.
    pub zero: u16,
}

/// The call was sent to an endpoint.
pub const KIND_TRANSLATED: u8 = 1;
/// The call was refused: no endpoint.
pub const KIND_REFUSED: u8 = 2;
/// The call was left to the packet path.
pub const KIND_LEFT: u8 = 3;
/// A list or an endpoint could not be read; the call was left untranslated.
pub const KIND_UNREADABLE: u8 = 4;
/// The socket's storage could not be written; the call was left untranslated.
pub const KIND_NO_STORAGE: u8 = 5;
