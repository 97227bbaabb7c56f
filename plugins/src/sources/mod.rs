//! Where Services come from.

pub mod host;
pub mod objects;

use crate::registry::SourcePlugin;

/// The sources of this build.
pub(crate) const PLUGINS: &[&dyn SourcePlugin] = &[&host::HostPlugin];

/// Every name that a cargo feature brings, on or off.
pub(crate) const FEATURES: &[(&str, &str)] = &[("static", "source-static")];
