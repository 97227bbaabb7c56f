//! Services from files: what `kubectl get services,endpointslices,nodes,servicecidrs -A -o yaml`
//! prints, in files or folders, taken up as it changes.
//!
//! ```text
//! watch ──Change──▶ source ──file──▶ manifest ──Reading──▶ claims ──Update──▶ engine
//! ```
//!
//! A file is taken up when its writer closes it, or when it is renamed into place; never while it
//! is being written.
//! What cannot be read never removes anything: a file with an error in it adds and changes
//! objects, and nothing of it goes until it is whole again.
//! What cannot be told from an edit is a file of several documents that ends between two of them,
//! and whose writer has closed it so.
//!
//! Links are followed when they themselves change, and when kubelet swaps the content of a
//! ConfigMap; a change behind any other link is not seen.

mod claims;
mod error;
mod manifest;
mod paths;
mod source;
mod watch;

use shunt_core::ServiceSource;

use crate::{PluginError, Settings, SourcePlugin};

pub use error::StaticError;
pub use source::StaticSource;

/// Source `static`.
pub(crate) struct StaticPlugin;

impl SourcePlugin for StaticPlugin {
    fn name(&self) -> &'static str {
        "static"
    }

    fn summary(&self) -> &'static str {
        "manifests in files and folders, as kubectl prints them"
    }

    fn build(&self, settings: &Settings) -> Result<Box<dyn ServiceSource>, PluginError> {
        let source = StaticSource::open(&settings.manifests)
            .map_err(|error| PluginError::new(self.name(), error))?;
        Ok(Box::new(source))
    }
}

#[cfg(test)]
mod tests;
