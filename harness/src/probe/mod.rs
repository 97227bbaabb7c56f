//! Real clients and servers, in a process of their own.
//!
//! Sockets belong to the cgroup of the process that makes them, so each pod of a world has a
//! process, placed into the pod's cgroup and network namespace before it runs. It executes
//! [`Order`]s that come as lines of JSON over a Unix socket on its standard input, and ends when
//! that is closed.

mod order;

mod program;

mod process;

mod server;

mod client;

mod burst;

mod race;

mod stream;

mod tap;

mod raw;

mod errno;

pub use burst::{Burst, Call, Tally, monotonic};
pub use client::{Fate, How, Received, Socket, Transport, Visit};
pub use errno::Failure;
pub use order::{Answer, Order};
pub use process::run;
pub use program::{ProbeProgram, main_if_asked};
pub use race::{Lap, Race, Times};
pub use server::Said;
pub use stream::Stream;
pub use tap::Sighting;
