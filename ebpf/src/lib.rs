//! The map layouts that the programs and user space share.
//!
//! Every type is plain old data with a fixed layout and no hidden padding: the kernel compares
//! keys byte by byte, and an upgrade reads what an earlier version wrote.
//! A change of anything in `address`, `tables`, `affinity` or `control` is a new
//! [`LAYOUT_VERSION`]; one of anything in `socket` a new [`SOCKET_VERSION`].

#![no_std]

pub mod address;
pub mod affinity;
pub mod control;
pub mod event;
pub mod socket;
pub mod tables;

/// Version of the tables; part of the name of their pin directory.
pub const LAYOUT_VERSION: u32 = 1;

/// Version of what sockets remember, which outlives the tables: live sockets keep their peer's name
/// over an upgrade. A map more, which older programs do not know, is no new version.
pub const SOCKET_VERSION: u32 = 1;
