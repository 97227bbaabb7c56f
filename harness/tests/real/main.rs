//! The kube source against a real API server: after whatever happened, the model holds what the
//! server holds, and in between it lost nothing.

mod access;
mod changes;
mod follower;
mod odd;
mod outages;

use anyhow::Result;
use shunt_harness::apiserver::{ApiServer, Place, Programs, objects};

use crate::follower::Follower;

/// A server with a Node, and a source that follows it; `None` where there is no server.
fn following() -> Result<Option<(ApiServer<'static>, Follower)>> {
    let Some(server) = server()? else { return Ok(None) };
    let mut follower = Follower::start(server.kubeconfig_of(ApiServer::PROXY)?)?;
    follower.until_synced()?;
    Ok(Some((server, follower)))
}

fn server() -> Result<Option<ApiServer<'static>>> {
    let Some(programs) = Programs::or_skip() else { return Ok(None) };
    let server = ApiServer::start(&programs, Place::Loopback)?;
    server.client().create(&objects::node("node-a", &["192.0.2.1".parse()?]))?;
    Ok(Some(server))
}
