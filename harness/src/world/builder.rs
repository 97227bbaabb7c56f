//! Making a world.

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nlink::netlink::namespace;

use super::{Addresses, Pod, Remains, World, network, remove};
use crate::probe::ProbeProgram;

/// Makes a [`World`] with the pods that it is told.
#[derive(Clone, Debug)]
pub struct WorldBuilder {
    program: ProbeProgram,
    pods: Vec<(String, String)>,
}

impl WorldBuilder {
    /// A world of a host and `beyond` alone, whose probe processes are `program`.
    #[must_use]
    pub fn new(program: &ProbeProgram) -> Self {
        Self { program: program.clone(), pods: Vec::new() }
    }

    /// Adds a pod; names have at most 11 characters.
    #[must_use]
    pub fn pod(mut self, name: &str, node: &str) -> Self {
        self.pods.push((name.to_owned(), node.to_owned()));
        self
    }

    /// Makes the world, after removing those of processes that are gone.
    ///
    /// # Errors
    ///
    /// Fails where a privilege or a facility of the kernel is missing; what was made is removed.
    pub fn build(self) -> Result<World> {
        remove::sweep();
        let remains = Remains::new()?;
        fs::create_dir_all(remains.folder.join("bpf"))
            .with_context(|| format!("cannot make the folder {}", remains.folder.display()))?;
        let bpffs = remains.folder.join("bpf");
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a bpffs")?;
        for cgroup in [&remains.cgroup, &remains.node_cgroup(), &remains.elsewhere()] {
            make_cgroup(cgroup)?;
        }

        let sites = self.sites(&remains)?;
        network::wire(&sites)?;
        let mut pods = start(&self.program, &sites)?;
        ensure!(!pods.is_empty(), "a world has a host");
        let host = pods.remove(0);
        Ok(World { host, pods, node_cgroup: remains.node_cgroup(), remains })
    }

    /// The host first, then the pods, the other sides of the world last.
    fn sites(&self, remains: &Remains) -> Result<Vec<Site>> {
        let (own, other) = (World::OWN_NODE, World::OTHER_NODE);
        let mut sites = vec![Site::new(remains, Role::Node, "host", own, Addresses::of_host(0))];
        for ((name, node), number) in self.pods.iter().zip(0..) {
            ensure!(name.len() <= 11, "the name of pod {name} is too long");
            ensure!([own, other].contains(&node.as_str()), "pod {name}: there is no node {node}");
            let addresses = Addresses::of_pod(node == own, number);
            sites.push(Site::new(remains, Role::Pod, name, node, addresses));
        }
        sites.extend([
            Site::new(remains, Role::Node, other, other, Addresses::of_other_node()),
            Site::new(remains, Role::Outside, "outside", "none", Addresses::of_outside()),
            Site::new(remains, Role::Beyond, "beyond", "none", Addresses::of_beyond()),
        ]);
        for site in &sites {
            namespace::create(&site.namespace)
                .with_context(|| format!("cannot make network namespace {}", site.namespace))?;
            make_cgroup(&site.cgroup)?;
        }
        Ok(sites)
    }
}

/// What a namespace stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A node, which forwards.
    Node,
    /// A pod of a node.
    Pod,
    /// The client that is no part of the cluster.
    Outside,
    /// Where everything arrives that nobody else is concerned with.
    Beyond,
}

/// Where a pod lives.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) node: String,
    pub(super) addresses: Addresses,
    pub(super) namespace: String,
    pub(super) cgroup: std::path::PathBuf,
}

impl Site {
    fn new(remains: &Remains, role: Role, name: &str, node: &str, addresses: Addresses) -> Self {
        let parent =
            if node == World::OWN_NODE { remains.node_cgroup() } else { remains.elsewhere() };
        Self {
            role,
            name: name.to_owned(),
            node: node.to_owned(),
            addresses,
            namespace: format!("{}.{name}", remains.name),
            cgroup: parent.join(name),
        }
    }

    /// Whether it is on the agent's node, or that node itself.
    pub(super) fn is_agents(&self) -> bool {
        self.node == World::OWN_NODE
    }
}

fn make_cgroup(cgroup: &Path) -> Result<()> {
    fs::create_dir(cgroup).with_context(|| format!("cannot make cgroup {}", cgroup.display()))
}

/// Starts all probe processes at once: most of the time is the loading of the program.
fn start(program: &ProbeProgram, sites: &[Site]) -> Result<Vec<Pod>> {
    thread::scope(|scope| {
        let starting: Vec<_> =
            sites.iter().map(|site| scope.spawn(|| Pod::start(program, site.clone()))).collect();
        starting
            .into_iter()
            .map(|pod| pod.join().unwrap_or_else(|_| anyhow::bail!("starting a pod panicked")))
            .collect()
    })
}
