//! Who may see what, and how that is proven.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use shunt_harness::apiserver::{
    ApiServer, Authority, Client, Credential, Validity, objects::service,
};

use crate::{
    follower::{Follower, SILENCE},
    following, server,
};

#[test]
fn a_token_that_was_exchanged_is_taken_up() -> Result<()> {
    let Some(mut server) = server()? else { return Ok(()) };
    let client = server.client();
    let named = |api: &str, kind: &str, name: &str| {
        json!({ "apiVersion": api, "kind": kind,
                "metadata": { "namespace": "kube-system", "name": name } })
    };
    client.create(&named("v1", "ServiceAccount", "shunt"))?;
    client.create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "shunt" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                     "name": "system:node-proxier" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "kube-system", "name": "shunt" }],
    }))?;
    let token = |name: &str| {
        client.create(&named("v1", "Secret", name))?;
        client.token("kube-system", "shunt", name)
    };
    let path = server.folder().join("token");
    fs::write(&path, token("first")?)?;
    let kubeconfig = server.kubeconfig(Credential::TokenFile(path.clone()));
    let kubeconfig = kubeconfig.write(server.folder(), "rotating")?;
    let mut follower = Follower::start(kubeconfig.clone())?;
    follower.until_synced()?;

    let second = token("second")?;
    client.delete(&named("v1", "Secret", "first"))?;
    // The first token is refused from now on, and the watches have to be made anew.
    server.restart()?;
    let refused = Client::new(&kubeconfig, None)?.read("/api/v1/services");
    assert!(format!("{:#}", refused.unwrap_err()).contains("401"));
    follower.until_lost()?;
    fs::write(&path, second)?;
    server.client().create(&service("default", "web"))?;
    follower.until_as_server_says(server.client())?;
    follower.until_found()?;
    assert_eq!(follower.removed, 0);
    Ok(())
}

#[test]
fn a_certificate_that_is_refused_can_be_exchanged() -> Result<()> {
    let Some(server) = server()? else { return Ok(()) };
    server.client().create(&service("default", "web"))?;
    let write = |identity| {
        server.kubeconfig(Credential::Certificate(identity)).write(server.folder(), "user")
    };
    let user = |authority: &Authority, validity| authority.user("system:kube-proxy", validity);
    let refused = [
        user(server.authority(), Validity::Expired)?,
        user(&Authority::new()?, Validity::Current)?,
    ];
    for identity in refused {
        let mut follower = Follower::start(write(identity)?)?;
        follower.until_lost()?;
        assert!(!follower.is_synced());
        write(user(server.authority(), Validity::Current)?)?;
        follower.until_synced()?;
        follower.until_as_server_says(server.client())?;
        follower.until_found()?;
    }
    Ok(())
}

#[test]
fn a_server_that_cannot_be_trusted_is_not_believed() -> Result<()> {
    let Some((mut server, mut follower)) = following()? else { return Ok(()) };
    server.client().create(&service("default", "web"))?;
    follower.until_as_server_says(server.client())?;
    let address = server.address().ip();
    let foreign = Authority::new()?;
    for identity in [
        server.authority().server(&[address], Validity::Expired)?,
        foreign.server(&[address], Validity::Current)?,
        server.authority().server(&["192.0.2.77".parse()?], Validity::Current)?,
    ] {
        let good = (
            fs::read_to_string(server.folder().join("server.pem"))?,
            fs::read_to_string(server.folder().join("server.key"))?,
        );
        server.kill()?;
        server.show(&identity)?;
        server.start_unseen()?;
        follower.until_lost()?;
        follower.loses_nothing_while(SILENCE)?;
        server.kill()?;
        server.show(&shunt_harness::apiserver::Identity { certificate: good.0, key: good.1 })?;
        server.resurrect()?;
        follower.until_found()?;
    }
    server.client().delete(&service("default", "web"))?;
    follower.until_as_server_says(server.client())?;
    assert_eq!(follower.removed, 1);
    Ok(())
}

#[test]
fn what_rbac_refuses_holds_up_only_what_needs_it() -> Result<()> {
    let Some(server) = server()? else { return Ok(()) };
    let client = server.client();
    client.create_all(&[service("default", "web"), service("default", "mail")])?;
    let role = |rules: Value| {
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": { "name": "partial" }, "rules": rules })
    };
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs });
    let all = ["list", "watch"];
    let services = rule("", "services", &all);
    // Without the verb watch a list is of no use.
    client
        .create(&role(json!([services, rule("discovery.k8s.io", "endpointslices", &["list"])])))?;
    client.create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "partial" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                     "name": "partial" },
        "subjects": [{ "kind": "User", "name": "nobody" }],
    }))?;
    let mut follower = Follower::start(server.kubeconfig_of(ApiServer::NOBODY)?)?;
    follower.until("the Services", |cluster| cluster.services().count() == 3)?;
    follower.until_lost()?;
    client.create(&service("default", "late"))?;
    follower.until("a late Service", |cluster| cluster.services().count() == 4)?;
    assert!(!follower.is_synced(), "complete without slices");

    // Node and ServiceCIDRs stay refused: nothing waits for them.
    client.apply(&role(json!([services, rule("discovery.k8s.io", "endpointslices", &all)])))?;
    follower.until_synced()?;
    follower.until_as_server_says(client)?;
    assert!(follower.cluster.node().is_none());

    client.apply(&role(json!([
        services,
        rule("discovery.k8s.io", "endpointslices", &all),
        rule("", "nodes", &all),
        rule("networking.k8s.io", "servicecidrs", &all),
    ])))?;
    follower.until("the node", |cluster| cluster.node().is_some())?;
    follower.until_found()?;
    assert_eq!(follower.removed, 0);
    Ok(())
}

#[test]
fn an_exec_plugin_is_asked_for_the_token() -> Result<()> {
    let Some(server) = server()? else { return Ok(()) };
    server.client().create(&service("default", "web"))?;
    let kubeconfig = server.kubeconfig_of(ApiServer::PROXY)?;
    let path = with_plugin(&server, &kubeconfig)?;
    let mut follower = Follower::start(path)?;
    follower.until_synced()?;
    follower.until_as_server_says(server.client())?;
    server.client().create(&service("default", "mail"))?;
    follower.until_as_server_says(server.client())
}

/// The same kubeconfig, with a program that prints the token.
fn with_plugin(server: &ApiServer<'_>, kubeconfig: &Path) -> Result<std::path::PathBuf> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(kubeconfig)?)?;
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": { "token": ApiServer::PROXY },
    });
    let user = config.pointer_mut("/users/0/user").context("a kubeconfig without a user")?;
    *user = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "echo",
        "args": [credential.to_string()], "interactiveMode": "Never",
    } });
    let path = server.folder().join("plugin.kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok(path)
}
