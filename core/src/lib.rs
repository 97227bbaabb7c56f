//! What Shunt is made of, without a kernel and without Kubernetes.
//!
//! ```text
//! ServiceSource ──Update──▶ model ──Dirty──▶ plan ──Delta──▶ LbBackend(s) ──▶ kernel
//!  kube, static,            cluster as       what serves,    connect (cgroup eBPF)
//!  mock (tests)             last seen        on this node    nftables
//! ```
//!
//! One direction, and each arrow is one type.
//! The only way back is a [`backend::Bell`]: a backend rings it when someone else changed the
//! kernel's state, and the [`engine`] then verifies.
//! This crate does no I/O; `async` occurs in [`source`], [`backend`] and [`engine`] alone.

pub mod source;

pub mod model;

pub mod plan;

pub mod backend;

pub mod engine;

pub mod notice;

pub use backend::LbBackend;
pub use engine::Engine;
pub use plan::Delta;
pub use source::{ServiceSource, Update};
