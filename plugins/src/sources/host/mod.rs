//! The addresses that this host's interfaces carry, followed over netlink.
//!
//! NodePorts are answered on them, and a ClusterIP that an interface carries is left to whatever
//! listens there.

mod interfaces;
mod source;

use shunt_core::ServiceSource;

use crate::{PluginError, Settings, SourcePlugin};

pub use source::{HostError, HostSource};

/// Source `host`.
pub(crate) struct HostPlugin;

impl SourcePlugin for HostPlugin {
    fn name(&self) -> &'static str {
        "host"
    }

    fn summary(&self) -> &'static str {
        "the addresses of this host's interfaces; always on"
    }

    fn build(&self, _settings: &Settings) -> Result<Box<dyn ServiceSource>, PluginError> {
        Ok(Box::new(HostSource::new()))
    }
}

#[cfg(test)]
mod tests;
