//! How the packet path is to work.

use std::time::Duration;

use ipnet::IpNet;
use shunt_core::model::Family;

/// How the packet path is to work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NftablesOptions {
    /// Whether everything that dials a ClusterIP is masqueraded.
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading; at most 31.
    pub masquerade_bit: u8,
    /// How a local pod is recognised.
    pub detector: Detector,
    /// How many clients `ClientIP` affinity remembers, in each family.
    pub affinity_size: u32,
    /// The name of the two tables.
    pub table: String,
    /// How long a write may wait for the kernel's answer.
    pub patience: Duration,
}

impl Default for NftablesOptions {
    fn default() -> Self {
        Self {
            masquerade_all: false,
            masquerade_bit: 14,
            detector: Detector::None,
            affinity_size: 262_144,
            table: "shunt".to_owned(),
            patience: Duration::from_secs(30),
        }
    }
}

impl NftablesOptions {
    /// The table of a family, as `nft` names it.
    pub(super) fn table_name(&self, family: Family) -> String {
        match family {
            Family::V4 => format!("ip {}", self.table),
            Family::V6 => format!("ip6 {}", self.table),
        }
    }
}

/// How a packet is recognised as a local pod's. What the host itself sends never is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Detector {
    /// Not at all: nothing is masqueraded on its way to a ClusterIP.
    #[default]
    None,
    /// By its source address; a family without a CIDR has no detector.
    ClusterCidr(Vec<IpNet>),
    /// By its source address, which lies in a pod CIDR of the Node. Nothing is applied before the
    /// Node has one.
    NodeCidr,
    /// By the bridge that it comes in through.
    BridgeInterface(String),
    /// By how the name of the interface begins that it comes in through.
    InterfacePrefix(String),
}
