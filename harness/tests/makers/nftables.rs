//! Makes the nftables backend for a site.

use shunt_backends::nftables::{Detector, NftablesBackend, NftablesOptions};
use shunt_core::{LbBackend, model::Family};
use shunt_harness::{
    conformance::{LocalPods, Site},
    world::{BRIDGE, cluster_cidr},
};

pub(crate) fn make(site: &Site) -> Box<dyn LbBackend> {
    let mut options = NftablesOptions::default();
    options.masquerade_all = site.masquerade_all;
    options.detector = match site.local_pods {
        LocalPods::Unknown => Detector::None,
        LocalPods::ClusterCidr => Detector::ClusterCidr(Family::ALL.map(cluster_cidr).to_vec()),
        LocalPods::NodeCidr => Detector::NodeCidr,
        LocalPods::Bridge => Detector::BridgeInterface(BRIDGE.to_owned()),
        LocalPods::Prefix => Detector::InterfacePrefix(LocalPods::PREFIX.to_owned()),
    };
    Box::new(NftablesBackend::new(options))
}
