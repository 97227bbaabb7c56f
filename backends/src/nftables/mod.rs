//! The packet path: two nftables tables whose rules never grow.
//!
//! ```text
//! Delta ─▶ render ─▶ state ─▶ netlink ─▶ elements ◀─ constant rules ◀─ packets
//! ```
//!
//! [`ruleset`] says which sets, chains and rules there are, [`render`] which elements a
//! ServicePort has, [`state`] what has to be written and when, and [`netlink`] writes it.

mod backend;
mod beside;
mod cleanup;
pub mod conntrack;
mod data;
mod dump;
mod grace;
mod inspect;
mod lists;
mod lock;
mod netlink;
mod options;
mod probe;
mod render;
mod ruleset;
mod running;
mod state;
mod watch;
mod wire;

pub use self::{
    backend::NftablesBackend,
    beside::kube_proxy,
    options::{Detector, NftablesOptions},
};
