//! What a plug-in may need to know to build its source or backend.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

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
    /// How the API server is reached, for source `kube`.
    pub kube: KubeSettings,
    /// The cgroup to attach to; `None` for the root of the node's cgroup namespace.
    pub cgroup: Option<PathBuf>,
    /// The folder in bpffs in which maps and links are pinned.
    pub pin_path: PathBuf,
    /// Sizes of kernel tables that differ from their default, by the table's name in lower case:
    /// `frontends4`, `endpoints`.
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
            kube: KubeSettings::default(),
            cgroup: None,
            pin_path: PathBuf::from("/sys/fs/bpf/shunt"),
            table_sizes: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

/// How the API server is reached. Everything has the default of kube-proxy.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KubeSettings {
    /// `--kubeconfig`; `None` for the Pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: the server's URL, which overrides the one in the kubeconfig.
    pub master: Option<String>,
    /// `--kube-api-qps`: requests a second, over time. 0 means the default.
    pub qps: f32,
    /// `--kube-api-burst`: requests that may come at once. 0 means the default.
    pub burst: u32,
    /// How long the server may be silent in the middle of an answer. A watch is never that
    /// silent: the server sends a bookmark every minute.
    pub silence: Duration,
    /// How long making a connection may take.
    pub connect: Duration,
    /// The longest wait between two tries.
    pub longest_wait: Duration,
}

impl Default for KubeSettings {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            master: None,
            qps: Self::QPS,
            burst: Self::BURST,
            silence: Duration::from_secs(100),
            connect: Duration::from_secs(10),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl KubeSettings {
    /// The default of [`Self::qps`].
    pub const QPS: f32 = 5.0;
    /// The default of [`Self::burst`].
    pub const BURST: u32 = 10;
}
