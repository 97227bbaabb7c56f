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
    /// Sizes of kernel tables that differ from their default, by the table's name in lower case:
    /// `frontends4`, `endpoints`.
    pub table_sizes: BTreeMap<String, u32>,
    /// Whether everything that dials a ClusterIP through the packet path is masqueraded.
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading; at most 31.
    pub masquerade_bit: u8,
    /// How the packet path recognises a local pod.
    pub detect_local: DetectLocal,
    /// How many clients the packet path remembers for affinity, in each family.
    pub affinity_size: u32,
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
            table_sizes: BTreeMap::new(),
            masquerade_all: false,
            masquerade_bit: 14,
            detect_local: DetectLocal::None,
            affinity_size: 262_144,
            extra: BTreeMap::new(),
        }
    }
}

/// How the packet path recognises a local pod: kube-proxy's `detectLocalMode`, with what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DetectLocal {
    /// Not at all.
    #[default]
    None,
    /// `ClusterCIDR`: by its address; a family without a CIDR has no detector.
    ClusterCidr(Vec<IpNet>),
    /// `NodeCIDR`: by its address, which lies in a pod CIDR of the Node.
    NodeCidr,
    /// `BridgeInterface`: by the bridge that its packets come in through.
    BridgeInterface(String),
    /// `InterfaceNamePrefix`: by how the name of the interface begins that its packets come in
    /// through.
    InterfaceNamePrefix(String),
}
