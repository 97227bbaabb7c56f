//! Connection tracking: flows that were translated once keep their endpoint, also when it is gone.
//!
//! TCP finds out by itself. A UDP client does not: as long as it goes on sending, its flow lives,
//! and every packet is lost. So soon after an apply the flows of changed UDP ServicePorts are looked
//! at, and those whose endpoint no longer serves are deleted; the next packet is a new connection.
//!
//! `stale` says which flows have to go (pure), `ledger` keeps what that decision needs (pure too),
//! [`Reconciler`] is called by the backend and looks in a task of its own, `netlink` asks the
//! kernel, [`sysctl`] sets how big and how patient the kernel's table is.

mod ledger;
mod netlink;
mod reconciler;
mod stale;
pub mod sysctl;
#[cfg(test)]
mod tests;

pub use netlink::FlowError;
pub use reconciler::Reconciler;
