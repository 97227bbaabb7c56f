//! What `shunt` does beside running the agent, one file each.

pub(crate) mod cleanup;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod get;

use anyhow::Result;
use shunt_core::LbBackend;
use shunt_plugins::Registry;

use crate::{args::Place, run};

/// The connect-time backend at the place that the flags name, not started.
fn connect(place: &Place) -> Result<Box<dyn LbBackend>> {
    let settings = run::settings(place);
    Ok(Registry::builtin().backend("connect")?.build(&settings)?)
}
