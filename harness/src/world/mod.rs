//! Small worlds of network namespaces and cgroups.
//!
//! Everything of a world carries its name, `shunt-<pid>-<number>`: the network namespaces under
//! `/run/netns`, the cgroup below the cgroup2 mount, the folder with the bpffs. So a world that
//! was not removed can be, by name alone, and removing is one function for all cases.

mod addresses;

mod builder;

mod cgroup;

mod network;

mod pod;

mod remove;

mod socket;

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, anyhow};

pub use addresses::{Addresses, EXTERNAL4, EXTERNAL6, SERVICE4, SERVICE6, cluster_cidr, pod_cidr};
pub use builder::WorldBuilder;
pub use cgroup::{Membership, cgroup2_mount};
pub use network::BRIDGE;
pub use pod::Pod;
pub use socket::{KernelSocket, Tap};

use crate::probe::ProbeProgram;

/// A world. It disappears when dropped.
#[derive(Debug)]
pub struct World {
    host: Pod,
    pods: Vec<Pod>,
    node_cgroup: PathBuf,
    // Dropped after the pods, whose processes then are gone.
    remains: Remains,
}

impl World {
    /// The name of the agent's node, on which `client`, `client-2` and `echo-1` run.
    pub const OWN_NODE: &'static str = "node-a";
    /// The name of the other node, on which `echo-2` and `echo-3` run.
    pub const OTHER_NODE: &'static str = "node-b";

    /// The world that most tests use: see [`crate`].
    ///
    /// # Errors
    ///
    /// As [`WorldBuilder::build`].
    pub fn standard(program: &ProbeProgram) -> Result<Self> {
        WorldBuilder::new(program)
            .pod("client", Self::OWN_NODE)
            .pod("client-2", Self::OWN_NODE)
            .pod("echo-1", Self::OWN_NODE)
            .pod("echo-2", Self::OTHER_NODE)
            .pod("echo-3", Self::OTHER_NODE)
            .build()
    }

    /// The world's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.remains.name
    }

    /// The agent's node: its processes are in the network namespace whose bridge carries the pods.
    #[must_use]
    pub const fn host(&self) -> &Pod {
        &self.host
    }

    /// The client outside of the cluster, whose packets reach the agent's node by a link of their
    /// own.
    ///
    /// # Errors
    ///
    /// Fails where there is none.
    pub fn outside(&self) -> Result<&Pod> {
        self.pod("outside")
    }

    /// A pod by name; the other node, `outside` and `beyond` count as pods.
    ///
    /// # Errors
    ///
    /// Fails where there is no such pod.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let mut pods = self.pods.iter();
        pods.find(|pod| pod.name() == name).ok_or_else(|| anyhow!("there is no pod {name}"))
    }

    /// A second pair of addresses of the host, beside its primary ones: [`Pod::addresses`].
    #[must_use]
    pub const fn second_host_addresses(&self) -> Addresses {
        Addresses::of_host(1)
    }

    /// All pods, in the order in which they were made.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter()
    }

    /// The cgroup of the agent's node: the parent of those of the host and of each of its pods.
    /// What a backend attaches to. Whoever is elsewhere in the world is elsewhere here, too.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.node_cgroup
    }

    /// The world's own bpffs.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.remains.folder.join("bpf")
    }

    /// Where a backend pins: a folder in [`Self::bpffs`] that does not exist yet.
    #[must_use]
    pub fn pin_path(&self) -> PathBuf {
        self.bpffs().join("shunt")
    }

    /// A folder for anything else, removed with the world.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.remains.folder
    }

    /// Moves this process into the host's cgroup until the world or the membership is dropped, so
    /// that sockets that it makes are the host's.
    ///
    /// # Errors
    ///
    /// Fails where the kernel refuses.
    pub fn join_host(&self) -> Result<Membership> {
        Membership::join(self.host.cgroup())
    }

    /// Leaves the world up when this process ends, and returns its name for [`Self::remove`].
    ///
    /// # Errors
    ///
    /// Fails where a pod's process is gone; the world then is removed.
    pub fn keep(self) -> Result<String> {
        for pod in self.pods.iter().chain([&self.host]) {
            pod.detach()?;
        }
        fs::write(self.remains.folder.join(remove::KEPT), "")
            .context("cannot mark the world as kept")?;
        let name = self.remains.name.clone();
        std::mem::forget(self);
        Ok(name)
    }

    /// Removes a world by name; what it made and what has joined it since is gone afterwards.
    ///
    /// # Errors
    ///
    /// Goes on after an error and returns them all as one.
    pub fn remove(name: &str) -> Result<()> {
        remove::remove(name)
    }

    /// Removes every world whose maker is gone, unless it was kept. Making a world does this too.
    pub fn sweep() {
        remove::sweep();
    }

    /// The names of the worlds that were kept.
    ///
    /// # Errors
    ///
    /// Fails where the folder of worlds cannot be read.
    pub fn kept() -> Result<Vec<String>> {
        remove::kept()
    }
}

/// What remains of a world when its processes are gone: names, all of which the drop removes.
#[derive(Debug)]
struct Remains {
    name: String,
    cgroup: PathBuf,
    folder: PathBuf,
}

impl Remains {
    /// A name that no other world has.
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shunt-{}-{number}", process::id());
        let cgroup = cgroup2_mount()?.join(&name);
        let folder = remove::folder(&name);
        Ok(Self { name, cgroup, folder })
    }

    /// The cgroup of all that runs on the agent's node.
    fn node_cgroup(&self) -> PathBuf {
        self.cgroup.join(World::OWN_NODE)
    }

    /// The cgroup of all that runs elsewhere.
    fn elsewhere(&self) -> PathBuf {
        self.cgroup.join("elsewhere")
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Err(error) = remove::remove(&self.name) {
            tracing::error!("the world {} was not removed: {error:#}", self.name);
        }
    }
}
