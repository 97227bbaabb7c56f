//! What `shunt` does beside running the agent, one file each.

pub(crate) mod cleanup;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod get;

use anyhow::Result;
use shunt_core::LbBackend;
use shunt_plugins::{BackendPlugin, Registry};

use crate::{args::Place, run};

/// Every backend of this binary at the place that the flags name, not started, in the order in
/// which a connection meets them.
fn backends(place: &Place) -> Result<Vec<(&'static str, Box<dyn LbBackend>)>> {
    let settings = run::settings(place);
    let build = |plugin: &'static dyn BackendPlugin| Ok((plugin.name(), plugin.build(&settings)?));
    Registry::builtin().backends().map(build).collect()
}
