//! Grace periods: when no packet on its way can know any more what it could know before.

use std::io;

use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};

/// Waits until everything that the kernel does just now has ended: it waits for an RCU grace
/// period, and packets pass the rules within an RCU read section. 4 to 28 ms.
///
/// # Errors
///
/// Fails on kernels that were started with `nohz_full`.
///
/// # Minimum kernel version
///
/// 4.3.
pub(super) fn wait() -> io::Result<()> {
    Ok(membarrier(MembarrierCommand::Global)?)
}

/// Whether [`wait`] works here.
pub(super) fn can_wait() -> bool {
    membarrier_query().contains_command(MembarrierCommand::Global)
}
