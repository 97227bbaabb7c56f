//! The one element of array `CONTROL` (mmapable): what user space tells the programs.

/// Words that user space stores and programs load, each atomic by itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Odd while user space writes hash maps: a miss is then no proof.
    pub epoch: u64,
    /// The cookie of the agent's own network namespace, 0 if unknown: there, and only there,
    /// NodePorts are answered on loopback addresses.
    pub host_netns: u64,
    /// `service number << 32 | level`: which events go to the ring buffer.
    pub events: u64,
    /// Always 0.
    pub reserved: [u64; 5],
}

/// Level of events: none, and nothing is paid.
pub const EVENTS_OFF: u32 = 0;
/// Level of events: what went wrong.
pub const EVENTS_ERRORS: u32 = 1;
/// Level of events: every decision about a Service.
pub const EVENTS_ALL: u32 = 2;
