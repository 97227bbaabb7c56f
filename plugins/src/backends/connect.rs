//! The plug-in of the connect-time backend.

use shunt_backends::connect::{ConnectBackend, ConnectOptions, TableSizes};
use shunt_core::LbBackend;

use crate::{BackendPlugin, PluginError, Settings};

/// `connect`.
pub(crate) struct Connect;

/// A table of a name that there is not.
#[derive(Debug, thiserror::Error)]
#[error("there is no table {name}: tables are {}", TableSizes::NAMES.join(", "))]
struct UnknownTable {
    name: String,
}

/// A table that would hold nothing.
#[derive(Debug, thiserror::Error)]
#[error("the size of table {name} is 0: it is at least 1")]
struct EmptyTable {
    name: String,
}

impl BackendPlugin for Connect {
    fn name(&self) -> &'static str {
        "connect"
    }

    fn summary(&self) -> &'static str {
        "cgroup eBPF programs at connect(): no NAT, nothing on a connection's packets"
    }

    fn build(&self, settings: &Settings) -> Result<Box<dyn LbBackend>, PluginError> {
        let mut sizes = TableSizes::default();
        for (name, size) in &settings.table_sizes {
            let unknown =
                || PluginError::new(self.name(), UnknownTable { name: name.clone() });
            let table = sizes.by_name(name).ok_or_else(unknown)?;
            if *size == 0 {
                return Err(PluginError::new(self.name(), EmptyTable { name: name.clone() }));
            }
            *table = *size;
        }
        Ok(Box::new(ConnectBackend::new(ConnectOptions {
            cgroup: settings.cgroup.clone(),
            pin_path: settings.pin_path.clone(),
            sizes,
        })))
    }
}
