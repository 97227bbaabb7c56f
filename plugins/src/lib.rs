//! The sources and backends that Shunt comes with, and how they are composed.
//!
//! A [`Registry`] holds plug-ins: ours, as far as cargo features compiled them in, and anybody
//! else's. At startup [`compose()`] asks the backends what they can do on this machine and takes
//! those that the mode wants.

pub mod sources;

mod backends;
mod compose;
mod notices;
mod registry;
mod settings;

pub use compose::{
    ComposeError, Composition, Mode, NamedSources, compose, compose_notice_board, compose_sources,
};
pub use notices::NoticeBoard;
pub use registry::{BackendPlugin, PluginError, Registry, SourcePlugin, UnknownPlugin};
pub use settings::{KubeSettings, LocalPods, PacketSettings, Settings};

#[cfg(test)]
mod tests;
