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
        let mut options = NftablesOptions::default();
        options.masquerade_all = packets.masquerade_all;
        options.masquerade_bit = packets.masquerade_bit;
        options.detector = match packets.local_pods.clone() {
            LocalPods::Unknown => Detector::None,
            LocalPods::ClusterCidrs(cidrs) => Detector::ClusterCidr(cidrs),
            LocalPods::NodeCidrs => Detector::NodeCidr,
            LocalPods::Bridge(name) => Detector::BridgeInterface(name),
            LocalPods::InterfacePrefix(prefix) => Detector::InterfacePrefix(prefix),
        };
        let [affinity] = PACKET_TABLES;
        if let Some(size) = settings.table_sizes.get(affinity) {
            options.affinity_size = *size;
        }
        Ok(Box::new(NftablesBackend::new(options)))
    }
}
