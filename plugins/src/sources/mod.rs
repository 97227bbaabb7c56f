//! Where Services come from.

pub mod host;
#[cfg(feature = "source-kube")]
pub mod kube;
pub mod objects;
#[cfg(feature = "source-static")]
pub mod r#static;

use crate::registry::SourcePlugin;

/// The sources of this build.
pub(crate) const PLUGINS: &[&dyn SourcePlugin] = &[
    #[cfg(feature = "source-kube")]
    &kube::KubePlugin,
    #[cfg(feature = "source-static")]
    &r#static::StaticPlugin,
    &host::HostPlugin,
];

/// Every name that a cargo feature brings, on or off.
pub(crate) const FEATURES: &[(&str, &str)] =
    &[("kube", "source-kube"), ("static", "source-static")];
