//! What a plug-in may need to know to build its source or backend.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

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
            extra: BTreeMap::new(),
        }
    }
}
