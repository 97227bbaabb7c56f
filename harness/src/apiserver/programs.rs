//! The programs of `harness/kubernetes/`, where `cargo xtask setup` has put them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::tier;

/// What they are built from. A copy lies beside what was built, so that programs of an older
/// source are not taken for those of this one.
const SOURCES: [(&str, &str); 4] = [
    ("go.mod", include_str!("../../kubernetes/go.mod")),
    ("go.sum", include_str!("../../kubernetes/go.sum")),
    ("kube-apiserver/main.go", include_str!("../../kubernetes/kube-apiserver/main.go")),
    ("kube-proxy/main.go", include_str!("../../kubernetes/kube-proxy/main.go")),
];

/// A kube-apiserver with its store inside, and a kube-proxy.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The programs, or `None` where they were not built. Then prints `SKIP` and the reason; with
    /// `REQUIRE_ALL=1` that is a failure.
    ///
    /// # Panics
    ///
    /// Panics where they are not there and `REQUIRE_ALL` is `1`.
    #[must_use]
    pub fn or_skip() -> Option<Self> {
        Self::find().inspect_err(|error| tier::skip(&format!("{error:#}"))).ok()
    }

    /// The programs that were built from the source as it is.
    ///
    /// # Errors
    ///
    /// Fails where there are none; the error says how to get them.
    pub fn find() -> Result<Self> {
        let folder = match env::var_os("SHUNT_TOOLS") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let home = env::var_os("HOME").context("neither SHUNT_TOOLS nor HOME is set")?;
                PathBuf::from(home).join(".cache/shunt-tools")
            }
        };
        let folder = folder.join("kubernetes");
        let builds = fs::read_dir(&folder).into_iter().flatten().flatten();
        let found = builds.map(|build| build.path()).find(|build| is_of_this_source(build));
        match found {
            Some(folder) => Ok(Self { folder }),
            None => bail!(
                "no kube-apiserver for this source in {}: `cargo xtask setup` builds it, and needs \
                 Go for that",
                folder.display()
            ),
        }
    }

    /// kube-apiserver: see `harness/kubernetes/kube-apiserver/main.go`.
    #[must_use]
    pub fn api_server(&self) -> PathBuf {
        self.folder.join("kube-apiserver")
    }

    /// kube-proxy.
    #[must_use]
    pub fn kube_proxy(&self) -> PathBuf {
        self.folder.join("kube-proxy")
    }
}

fn is_of_this_source(build: &Path) -> bool {
    SOURCES.iter().all(|(name, text)| {
        fs::read_to_string(build.join("source").join(name)).is_ok_and(|built| built == *text)
    })
}
