//! How a client is told of an API server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Identity;

/// A kubeconfig, before it is written.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// The server's URL.
    pub server: String,
    /// The certificate, as PEM, of the authority that the client is to believe.
    pub authority: String,
    /// Who the client is.
    pub credential: Credential,
}

/// By what a client proves who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A token, written into the kubeconfig.
    Token(String),
    /// A file with a token, which may change.
    TokenFile(PathBuf),
    /// A certificate, in files beside the kubeconfig.
    Certificate(Identity),
}

impl Kubeconfig {
    /// Writes it to `folder`, with the files that it names, and returns its path. What was there
    /// under the same name is replaced.
    ///
    /// # Errors
    ///
    /// Fails where a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let file = |end: &str, text: &str| {
            let path = folder.join(format!("{name}{end}"));
            write(&path, text).map(|()| path)
        };
        let authority = file(".authority.pem", &self.authority)?;
        let user = match &self.credential {
            Credential::Token(token) => json!({ "token": token }),
            Credential::TokenFile(path) => json!({ "tokenFile": path }),
            Credential::Certificate(identity) => json!({
                "client-certificate": file(".certificate.pem", &identity.certificate)?,
                "client-key": file(".key.pem", &identity.key)?,
            }),
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "test",
                "cluster": { "server": self.server, "certificate-authority": authority },
            }],
            "users": [{ "name": "user", "user": user }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
            "current-context": "test",
        });
        // YAML contains JSON.
        file(".kubeconfig", &config.to_string())
    }
}

/// Writes a file that appears, or changes, at once.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    fs::write(&draft, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::rename(&draft, path).with_context(|| format!("cannot replace {}", path.display()))
}
