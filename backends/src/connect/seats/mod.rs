//! The seats of connected UDP sockets, which outlive programs and tables.

#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use shunt_core::backend::TableUse;
use shunt_ebpf::socket::Seat;

use super::{
    pins::Pins,
    sys::{self, values_of},
};

/// How many there are, to find a socket's own by: a power of two, whoever made the map.
///
/// # Errors
///
/// Fails if the map is not pinned or cannot be asked.
pub(super) fn count(pins: &Pins) -> io::Result<u32> {
    let size = sys::map_info(open(pins)?.as_fd())?.max_entries;
    Ok(size.checked_ilog2().map_or(0, |bits| 1 << bits))
}

/// How many are taken. Takes some ten milliseconds, for the kernel copies them one by one.
///
/// # Errors
///
/// Fails if the map cannot be read; its absence, before an earlier version's agent was replaced, is
/// no error.
pub(super) fn table_use(pins: &Pins) -> io::Result<Option<TableUse>> {
    let map = match open(pins) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = sys::map_info(map.as_fd())?.max_entries;
    let mut used = 0;
    sys::read_batches(map.as_fd(), (size_of::<u32>(), size_of::<Seat>()), size, |_, seats| {
        used += values_of::<Seat>(seats).filter(|seat| seat.cookie != 0).count() as u64;
    })?;
    Ok(Some(TableUse { name: SEATS, used, size: size.into() }))
}

fn open(pins: &Pins) -> io::Result<OwnedFd> {
    sys::object_get(&pins.sockets().join(SEATS))
}

/// The map's name.
const SEATS: &str = "SEATS";
