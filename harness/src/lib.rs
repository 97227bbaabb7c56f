//! What Shunt is tested and shown with: worlds of namespaces and cgroups, real clients and
//! servers, mocks, and a conformance suite that takes any backend.
//!
//! ```text
//! client, client-2, echo-1 ── bridge ── host netns (the agent's node) ──┬── node-b ── echo-2, echo-3
//!                                       a router, as node-b is          ├── outside
//!                                                                       └── beyond
//! ```
//!
//! Each of them has a network namespace, a cgroup and a probe process. The cgroups of the host and
//! its pods are below one, which a backend attaches to; a private bpffs is where it pins.
//!
//! # Use
//!
//! ```no_run
//! use shunt_harness::{probe::{ProbeProgram, Socket, Transport}, world::World};
//!
//! # fn main() -> anyhow::Result<()> {
//! let world = World::standard(&ProbeProgram::this_with(["probe-process"])?)?;
//! let echo = world.pod("echo-1")?;
//! let address = std::net::SocketAddr::new(echo.address4().into(), 8080);
//! echo.serve(Transport::Tcp, &[address])?;
//! let visit = world.pod("client")?.visit(Socket::tcp4(), address)?;
//! assert_eq!(visit.said.server, "echo-1");
//! # Ok(())
//! # }
//! ```
//!
//! - [`world::World::standard`] has the pods `client`, `client-2`, `echo-1` (own node), `echo-2`
//!   and `echo-3` (the other node), the client `outside` of the cluster and `beyond`, to which
//!   everything goes that nothing translated: it owns every address of the ServiceCIDRs and of the
//!   external ranges.
//!   [`world::WorldBuilder`] makes others.
//! - [`world::Pod::visit`] makes one connection and says who answered and what the client saw;
//!   [`world::Pod::burst`] makes many from several threads and returns a [`probe::Tally`];
//!   [`world::Pod::open`] gives a socket to drive step by step; [`world::Pod::tap`] shows every
//!   packet that passes a namespace.
//! - [`world::Pod::command`] starts any program in a pod's netns and cgroup (the agent in
//!   `world.host()`), [`world::Pod::run`] runs a closure on a thread in its netns.
//! - The binary that makes a world must answer the hidden call of its [`probe::ProbeProgram`]
//!   with [`probe::run`].
//! - A world disappears when it is dropped, also in a panic; what a killed run left is removed by
//!   the next one. [`world::World::keep`] leaves it up, [`world::World::remove`] removes it by
//!   name.

pub mod probe;

pub mod world;

pub mod conformance;

pub mod both;

pub mod crowd;

pub mod apiserver;

pub mod mock;

pub mod naive;

pub mod tier;

mod wait;

pub use wait::until;
