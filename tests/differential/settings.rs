//! What is compared with what.

use std::fmt;

/// How both proxies are set beside their modes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) name: &'static str,
    /// Whether they are told the nets of pods.
    pub(crate) knows_pods: bool,
    /// `--nodeport-addresses`.
    pub(crate) node_port_addresses: &'static [&'static str],
}

/// What most clusters have.
pub(crate) const USUAL: Settings =
    Settings { name: "usual", knows_pods: true, node_port_addresses: &["primary"] };

/// Nobody is known to be a pod, and NodePorts are answered at the second IPv4 address of the node
/// alone; of IPv6 nothing is said, which is every address.
pub(crate) const UNUSUAL: Settings =
    Settings { name: "unusual", knows_pods: false, node_port_addresses: &["10.77.0.2/32"] };

/// The settings; a cluster's seed decides which ones it meets.
pub(crate) const SETTINGS: [&Settings; 2] = [&USUAL, &UNUSUAL];

/// The mode of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Modes {
    /// kube-proxy's.
    pub(crate) theirs: &'static str,
    /// The agent's.
    pub(crate) ours: &'static str,
}

impl Modes {
    pub(crate) const ALL: [Self; 4] = [
        Self { theirs: "nftables", ours: "nftables" },
        Self { theirs: "nftables", ours: "auto" },
        Self { theirs: "iptables", ours: "nftables" },
        Self { theirs: "iptables", ours: "auto" },
    ];
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kube-proxy in mode {}, Shunt in mode {}", self.theirs, self.ours)
    }
}
