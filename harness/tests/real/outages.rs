//! A server that goes away and comes back.

use anyhow::{Context as _, Result};
use serde_json::Value;
use shunt_harness::apiserver::{
    Client,
    objects::{service, slice},
};

use crate::{
    follower::{Follower, SILENCE},
    following,
};

fn serve(client: &Client, names: &[&str]) -> Result<()> {
    for name in names {
        client.create(&service("default", name))?;
        client.create(&slice("default", name, "abcde", &["10.1.0.1:8080".parse()?]))?;
    }
    Ok(())
}

#[test]
fn a_server_that_was_killed_goes_on_where_it_was() -> Result<()> {
    let Some((mut server, mut follower)) = following()? else { return Ok(()) };
    serve(server.client(), &["web", "mail"])?;
    follower.until_as_server_says(server.client())?;
    for round in 0..3 {
        server.kill()?;
        follower.until_lost()?;
        server.resurrect()?;
        serve(server.client(), &[&format!("new-{round}")])?;
        follower.until_as_server_says(server.client())?;
        follower.until_found()?;
    }
    assert_eq!(follower.removed, 0);
    Ok(())
}

#[test]
fn a_server_that_stands_still_is_given_up_and_found_again() -> Result<()> {
    let Some((server, mut follower)) = following()? else { return Ok(()) };
    serve(server.client(), &["web", "mail"])?;
    follower.until_as_server_says(server.client())?;
    server.pause()?;
    follower.until_lost()?;
    // Connections are made, for the kernel makes them, and nobody answers.
    follower.loses_nothing_while(SILENCE * 3)?;
    server.go_on()?;
    follower.until_found()?;
    server.client().delete(&service("default", "web"))?;
    serve(server.client(), &["late"])?;
    follower.until_as_server_says(server.client())?;
    assert_eq!(follower.removed, 1);
    Ok(())
}

#[test]
fn what_was_compacted_away_is_listed_anew() -> Result<()> {
    let Some((mut server, mut follower)) = following()? else { return Ok(()) };
    serve(server.client(), &["web", "mail", "chat"])?;
    follower.until_as_server_says(server.client())?;
    let version = version(server.client())?;
    server.behind_the_scenes(|server, client| {
        client.delete(&service("default", "web"))?;
        client.delete(&slice("default", "mail", "abcde", &[]))?;
        serve(client, &["new"])?;
        server.compact()
    })?;
    server.resurrect()?;
    // Whoever asks for what came after the version of before is refused.
    let path = format!("/api/v1/services?watch=1&timeoutSeconds=5&resourceVersion={version}");
    let refused = server.client().read(&path)?;
    assert_eq!(refused.pointer("/object/code").and_then(Value::as_u64), Some(410), "{refused}");
    follower.until_as_server_says(server.client())?;
    follower.until_found()?;
    assert_eq!(follower.removed, 2);
    Ok(())
}

fn version(client: &Client) -> Result<String> {
    let list = client.read("/api/v1/services")?;
    let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    Ok(version.context("a list without a version")?.to_owned())
}

#[test]
fn nothing_is_complete_while_the_server_is_away() -> Result<()> {
    let Some((mut server, follower)) = following()? else { return Ok(()) };
    drop(follower);
    serve(server.client(), &["web"])?;
    let kubeconfig = server.kubeconfig_of(shunt_harness::apiserver::ApiServer::PROXY)?;
    server.kill()?;
    let mut follower = Follower::start(kubeconfig)?;
    follower.until_lost()?;
    assert!(!follower.is_synced());
    server.resurrect()?;
    follower.until_synced()?;
    follower.until_as_server_says(server.client())
}
