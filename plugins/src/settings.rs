//! What a plug-in may need to know to build its source or backend.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use ipnet::IpNet;

/// Settings for every plug-in; each reads its own.
///
/// They are plain values, so that a plug-in which is compiled out takes no type with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The name of the own Node.
    pub node_name: Arc<str>,
    /// Files and folders of manifests, for source `static`.
    pub manifests: Vec<PathBuf>,
    /// The cgroup to attach to; `None` for the root of the node's cgroup namespace.
    pub cgroup: Option<PathBuf>,
    /// The folder in bpffs in which maps and links are pinned.
    pub pin_path: PathBuf,
    /// How packets are treated, for backend `nftables`.
    pub packets: PacketSettings,
    /// Sizes of kernel tables that differ from their default, by the table's name in lower case:
    /// `frontends4`, `endpoints`. A backend reads those of its own.
    pub table_sizes: BTreeMap<String, u32>,
    /// For plug-ins of others.
    pub extra: BTreeMap<String, String>,
}

impl Settings {
    /// Defaults for the node called `node_name`.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            manifests: Vec::new(),
            cgroup: None,
            pin_path: PathBuf::from("/sys/fs/bpf/shunt"),
            packets: PacketSettings::default(),
            table_sizes: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

/// How packets are treated. Everything has the default of kube-proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketSettings {
    /// `--masquerade-all`: whether everything that dials a ClusterIP is masqueraded.
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading, 0 to 31.
    pub masquerade_bit: u8,
    /// How a packet is recognised as a local pod's.
    pub local_pods: LocalPods,
}

impl PacketSettings {
    /// The default of [`Self::masquerade_bit`]: mark 0x4000.
    pub const MASQUERADE_BIT: u8 = 14;
}

impl Default for PacketSettings {
    fn default() -> Self {
        Self {
            masquerade_all: false,
            masquerade_bit: Self::MASQUERADE_BIT,
            local_pods: LocalPods::default(),
        }
    }
}

/// How a packet is recognised as a local pod's. What the host itself sends never is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalPods {
    /// Not at all: nothing is masqueraded on its way to a ClusterIP.
    #[default]
    Unknown,
    /// By its source address, which lies in one of these.
    ClusterCidrs(Vec<IpNet>),
    /// By its source address, which lies in a pod CIDR of the Node.
    NodeCidrs,
    /// By the bridge that it comes in through.
    Bridge(String),
    /// By how the name of the interface begins that it comes in through.
    InterfacePrefix(String),
}
