//! Load balancing at the application's own `connect()`: programs on the node's cgroup.
//!
//! ```text
//! Delta ─▶ encode ─▶ tables ─▶ sys ─▶ maps ◀─ programs ◀─ connect(), sendmsg(), …
//! ```
//!
//! [`encode`] decides what this dataplane serves, [`tables`] brings it into the kernel, and [`sys`]
//! makes every system call.

mod backend;
mod bpffs;
mod canary;
mod cgroup;
mod cleanup;
mod encode;
mod events;
mod hook;
mod inspect;
mod links;
mod lock;
mod mounts;
mod object;
mod own_mounts;
mod pins;
mod probe;
mod program;
mod reclaim;
mod seats;
mod sizes;
mod slot;
mod snapshot;
#[expect(unsafe_code, reason = "the edge to the kernel; nothing outside it is unsafe")]
mod sys;
mod tables;
#[cfg(test)]
mod tests;
mod uncharged;
mod verify;

pub use self::{
    backend::{ConnectBackend, ConnectOptions},
    events::{Event, EventError, EventKind, EventLevel, Events},
    sizes::TableSizes,
};
