//! Where a backend is to work, and how.

use std::path::PathBuf;

use shunt_core::LbBackend;

/// Makes the backend under test. Called again for every restart.
pub type MakeBackend = fn(&Site) -> Box<dyn LbBackend>;

/// Where a backend is to work.
#[derive(Clone, Debug)]
pub struct Site {
    /// The cgroup to attach to; `None` for the one that the backend finds.
    pub cgroup: Option<PathBuf>,
    /// The folder for pins, on a bpffs.
    pub pin_path: PathBuf,
    /// How large tables are to be.
    pub room: Room,
    /// How a packet of a local pod is recognised, where packets are looked at.
    pub local_pods: LocalPods,
    /// Whether everything that dials a ClusterIP is masqueraded, where packets are looked at.
    pub masquerade_all: bool,
}

impl Site {
    /// An ordinary site: ample room, local pods known by the cluster's net.
    #[must_use]
    pub const fn new(cgroup: Option<PathBuf>, pin_path: PathBuf) -> Self {
        let local_pods = LocalPods::ClusterCidr;
        Self { cgroup, pin_path, room: Room::AMPLE, local_pods, masquerade_all: false }
    }
}

/// How a packet of a local pod is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalPods {
    /// Not at all.
    Unknown,
    /// By a source in [`crate::world::cluster_cidr`].
    ClusterCidr,
    /// By a source in the Node's pod CIDRs.
    NodeCidr,
    /// By the bridge [`crate::world::BRIDGE`], through which it came.
    Bridge,
    /// By the interface through which it came, whose name begins as the bridge's does:
    /// [`Self::PREFIX`].
    Prefix,
}

impl LocalPods {
    /// How the names of the interfaces begin through which packets of local pods come.
    pub const PREFIX: &'static str = "pod";
}

/// How large a backend's tables are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// ServicePorts.
    pub services: u32,
    /// Frontends in each family.
    pub frontends: u32,
    /// Endpoints of all ServicePorts together, old and new ones at a change.
    pub endpoints: u32,
    /// Connected UDP sockets that a backend remembers outside of the sockets themselves, if it
    /// does; a power of two.
    pub sockets: u32,
}

impl Room {
    /// Enough for every behaviour.
    pub const AMPLE: Self =
        Self { services: 1024, frontends: 2048, endpoints: 16384, sockets: 1024 };
}
