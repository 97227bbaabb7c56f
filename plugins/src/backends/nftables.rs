//! The packet path as a plug-in.

use shunt_backends::nftables::{Detector, NftablesBackend, NftablesOptions};
use shunt_core::LbBackend;

use super::PACKET_TABLES;
use crate::{
    LocalPods, Settings,
    registry::{BackendPlugin, PluginError},
};

/// Balances packets, whoever sends them.
pub(crate) struct Nftables;

impl BackendPlugin for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn summary(&self) -> &'static str {
        "nftables rules for packets, whoever sends them"
    }

    fn build(&self, settings: &Settings) -> Result<Box<dyn LbBackend>, PluginError> {
        let packets = &settings.packets;
        let refuse = |cause: String| PluginError::new(self.name(), cause);
        if packets.masquerade_bit > 31 {
            let bit = packets.masquerade_bit;
            return Err(refuse(format!("a packet mark has bits 0 to 31, and no bit {bit}")));
        }
        let named = |name: String| match name.len() {
            1..=15 => Ok(name),
            _ => Err(refuse(format!("no interface can be called {name:?}: 1 to 15 bytes"))),
        };
        let mut options = NftablesOptions::default();
        options.masquerade_all = packets.masquerade_all;
        options.masquerade_bit = packets.masquerade_bit;
        options.detector = match packets.local_pods.clone() {
            LocalPods::Unknown => Detector::None,
            LocalPods::ClusterCidrs(cidrs) => Detector::ClusterCidr(cidrs),
            LocalPods::NodeCidrs => Detector::NodeCidr,
            LocalPods::Bridge(name) => Detector::BridgeInterface(named(name)?),
            LocalPods::InterfacePrefix(prefix) => Detector::InterfacePrefix(named(prefix)?),
        };
        let [affinity] = PACKET_TABLES;
        if let Some(size) = settings.table_sizes.get(affinity) {
            options.affinity_size = *size;
        }
        Ok(Box::new(NftablesBackend::new(options)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let check = |change: &dyn Fn(&mut Settings), says: &str| {
            let mut settings = Settings::new("node");
            assert!(Nftables.build(&settings).is_ok());
            change(&mut settings);
            let cause = Nftables.build(&settings).err().unwrap().cause.to_string();
            assert!(cause.contains(says), "{cause}");
        };
        check(&|settings| settings.packets.masquerade_bit = 32, "no bit 32");
        let long = "a-name-of-16-byt".to_owned();
        let bridge = LocalPods::Bridge(long.clone());
        check(&|settings| settings.packets.local_pods = bridge.clone(), &long);
        let prefix = LocalPods::InterfacePrefix(String::new());
        check(&|settings| settings.packets.local_pods = prefix.clone(), "1 to 15 bytes");
    }
}
