//! Services from a Kubernetes API server.
//!
//! ```text
//! access ──Client──▶ watch ──Event──▶ listing ──Update──▶ engine
//! ```
//!
//! Four kinds are watched, each by itself: Services, EndpointSlices, the own Node, ServiceCIDRs.
//! The library `kube` lists and watches; what is ours is which objects are asked for, what becomes
//! of an object that cannot be read, and what is believed when something goes wrong:
//!
//! - An object that cannot be decoded removes nothing: what was last seen of it stays.
//! - Nothing is said to be complete before Services and EndpointSlices have been listed, and the
//!   Node and the ServiceCIDRs have been listed or refused.
//! - An outage changes nothing; it is logged once, and shows in [`Contact`].
//!
//! [`KubeEvents`] goes the other way: what operators should know becomes events of the cluster.

mod access;
mod contact;
mod events;
mod listing;
mod object;
mod source;
mod watch;

#[cfg(test)]
mod tests;

use shunt_core::ServiceSource;

use crate::{NoticeBoard, PluginError, Settings, SourcePlugin};

pub use access::{Access, AccessError};
pub use contact::Contact;
pub use events::KubeEvents;
pub use source::KubeSource;

/// Source `kube`.
pub(crate) struct KubePlugin;

impl SourcePlugin for KubePlugin {
    fn name(&self) -> &'static str {
        "kube"
    }

    fn summary(&self) -> &'static str {
        "the Kubernetes API server, the default"
    }

    fn build(&self, settings: &Settings) -> Result<Box<dyn ServiceSource>, PluginError> {
        let failed = |error| PluginError::new(self.name(), error);
        let access = Access::new(settings.kube.clone()).map_err(failed)?;
        Ok(Box::new(KubeSource::new(access, &settings.node_name)))
    }

    fn notice_board(
        &self,
        settings: &Settings,
    ) -> Result<Option<Box<dyn NoticeBoard>>, PluginError> {
        let failed = |error| PluginError::new(self.name(), error);
        // A limit of their own, so that events never delay a watch.
        let access = Access::new(settings.kube.clone()).map_err(failed)?;
        Ok(Some(Box::new(KubeEvents::new(access, &settings.node_name))))
    }
}
