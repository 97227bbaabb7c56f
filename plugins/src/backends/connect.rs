//! The connect-time backend as a plug-in.

use shunt_backends::connect::{ConnectBackend, ConnectOptions, TableSizes};
use shunt_core::LbBackend;

use super::PACKET_TABLES;
use crate::{
    Settings,
    registry::{BackendPlugin, PluginError},
};

/// Balances at the application's own `connect()`.
pub(crate) struct Connect;

impl BackendPlugin for Connect {
    fn name(&self) -> &'static str {
        "connect"
    }

    fn summary(&self) -> &'static str {
        "cgroup eBPF programs at the application's own connect()"
    }

    fn build(&self, settings: &Settings) -> Result<Box<dyn LbBackend>, PluginError> {
        let mut options = ConnectOptions::default();
        options.cgroup.clone_from(&settings.cgroup);
        options.pin_path.clone_from(&settings.pin_path);
        let others = |table: &str| PACKET_TABLES.contains(&table);
        for (table, size) in settings.table_sizes.iter().filter(|(table, _)| !others(table)) {
            let Some(place) = options.sizes.by_name(table) else {
                let known = TableSizes::NAMES.iter().chain(&PACKET_TABLES);
                let known = known.copied().collect::<Vec<_>>().join(", ");
                let cause = format!("there is no table {table:?}, only {known}");
                return Err(PluginError::new(self.name(), cause));
            };
            *place = *size;
        }
        Ok(Box::new(ConnectBackend::new(options)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_there_is_not_is_named_beside_those_that_there_are() {
        let mut settings = Settings::new("node");
        settings.table_sizes.insert("endpoints".to_owned(), 1000);
        settings.table_sizes.insert("packet_affinity".to_owned(), 1000);
        assert!(Connect.build(&settings).is_ok());
        settings.table_sizes.insert("chairs".to_owned(), 1);
        let error = Connect.build(&settings).err().unwrap();
        let cause = error.cause.to_string();
        assert!(cause.contains("chairs") && cause.contains("frontends4"), "{cause}");
    }
}
