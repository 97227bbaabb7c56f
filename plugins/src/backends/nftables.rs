//! The packet path as a plug-in.

use shunt_backends::nftables::{Detector, NftablesBackend, NftablesOptions};
use shunt_core::LbBackend;

use crate::{
    DetectLocal, Settings,
    registry::{BackendPlugin, PluginError},
};

/// Balances packets by nftables.
pub(crate) struct Nftables;

impl BackendPlugin for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn summary(&self) -> &'static str {
        "nftables, for everything that no socket on this node dials"
    }

    fn build(&self, settings: &Settings) -> Result<Box<dyn LbBackend>, PluginError> {
        let refuse = |cause: String| PluginError::new(self.name(), cause);
        if settings.masquerade_bit > 31 {
            let bit = settings.masquerade_bit;
            return Err(refuse(format!("a packet mark has bits 0 to 31, and no bit {bit}")));
        }
        if settings.affinity_size == 0 {
            return Err(refuse("the size of the affinity table must be at least 1".to_owned()));
        }
        let named = |name: &String| match name.len() {
            1..=15 => Ok(name.clone()),
            _ => Err(refuse(format!("no interface can be called {name:?}: 1 to 15 bytes"))),
        };
        let mut options = NftablesOptions::default();
        options.masquerade_all = settings.masquerade_all;
        options.masquerade_bit = settings.masquerade_bit;
        options.affinity_size = settings.affinity_size;
        options.detector = match &settings.detect_local {
            DetectLocal::None => Detector::None,
            DetectLocal::ClusterCidr(cidrs) => Detector::ClusterCidr(cidrs.clone()),
            DetectLocal::NodeCidr => Detector::NodeCidr,
            DetectLocal::BridgeInterface(name) => Detector::BridgeInterface(named(name)?),
            DetectLocal::InterfaceNamePrefix(name) => Detector::InterfacePrefix(named(name)?),
        };
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
        check(&|settings| settings.masquerade_bit = 32, "no bit 32");
        check(&|settings| settings.affinity_size = 0, "at least 1");
        let long = "a-name-of-16-byt".to_owned();
        let bridge = DetectLocal::BridgeInterface(long.clone());
        check(&|settings| settings.detect_local = bridge.clone(), &long);
        let prefix = DetectLocal::InterfaceNamePrefix(String::new());
        check(&|settings| settings.detect_local = prefix.clone(), "1 to 15 bytes");
    }
}
