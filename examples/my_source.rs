//! Someone else's source beside ours: a fixed list of addresses becomes a Service.
//!
//! `cargo run --example my_source` runs it once against a backend that prints, without privileges.

#![expect(clippy::print_stdout, reason = "it is what an example is for")]

use async_trait::async_trait;
use shunt_core::{
    Engine, ServiceSource, Update,
    engine::EngineOptions,
    model::{
        EndpointSlice, Family, ObjectName, PortSpec, Protocol, Service, SliceEndpoint, SlicePort,
    },
    source::{Completeness, Object, SourceError, SourceName, UpdateSender},
};
use shunt_plugins::{PluginError, Registry, Settings, SourcePlugin};
use tokio_util::sync::CancellationToken;

struct FixedPlugin;
impl SourcePlugin for FixedPlugin {
    fn name(&self) -> &'static str {
        "fixed"
    }
    fn summary(&self) -> &'static str {
        "the endpoints named in the setting fixed.endpoints"
    }
    fn build(&self, settings: &Settings) -> Result<Box<dyn ServiceSource>, PluginError> {
        let missing = || PluginError::new(self.name(), "the setting fixed.endpoints is missing");
        let text = settings.extra.get("fixed.endpoints").ok_or_else(missing)?;
        let endpoints = text.split(',').map(str::parse).collect::<Result<_, _>>();
        let endpoints = endpoints.map_err(|error| PluginError::new(self.name(), error))?;
        Ok(Box::new(Fixed { endpoints }))
    }
}

struct Fixed {
    endpoints: Vec<std::net::IpAddr>,
}
#[async_trait]
impl ServiceSource for Fixed {
    async fn run(
        self: Box<Self>,
        updates: UpdateSender,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        let (name, port) = (ObjectName::new("default", "fixed"), std::num::NonZeroU16::MIN);
        let mut service = Service::new(name.clone());
        service.cluster_ips = vec![[10, 96, 0, 1].into()].into();
        let protocol = Protocol::Tcp;
        service.ports = vec![PortSpec { name: "".into(), protocol, port, node_port: None }].into();
        let mut slice = EndpointSlice::new(name, Some("fixed".into()), Family::V4);
        slice.endpoints = self.endpoints.into_iter().map(SliceEndpoint::new).collect();
        slice.ports = vec![SlicePort { name: "".into(), protocol, port }].into();
        for object in [Object::from(service), Object::from(slice)] {
            updates.send(Update::Upsert(object)).await;
        }
        updates.send(Update::Synced(Completeness::Complete)).await;
        shutdown.cancelled().await;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let registry = Registry::builtin().with_source(&FixedPlugin);
    let mut settings = Settings::new("node-a");
    settings.extra.insert("fixed.endpoints".into(), "10.1.0.1,10.1.0.2".into());
    let source = (SourceName::new("fixed"), registry.source("fixed")?.build(&settings)?);
    let (backend, recorder) = shunt_harness::mock::backend();
    let backends = vec![("recording".to_owned(), Box::new(backend) as _)];
    let engine = Engine::new(EngineOptions::new("node-a"), vec![source], backends);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(engine.run(shutdown.clone()));
    let record = recorder.until(|record| record.state().complete).await;
    println!("default/fixed is served by {:?}", record.endpoints("default/fixed TCP IPv4"));
    shutdown.cancel();
    Ok(running.await??)
}
