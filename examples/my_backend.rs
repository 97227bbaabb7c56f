//! Someone else's backend beside ours, driven by our mock source:
//! `cargo run --example my_backend` runs it once, unprivileged.

#![expect(clippy::print_stdout, reason = "it is what an example is for")]

use async_trait::async_trait;
use shunt_core::{
    Delta, Engine, LbBackend,
    backend::{ApplyReport, BackendError, Bell, Capabilities, Inspection, Probe, Verdict},
    engine::EngineOptions,
    model::{Family, ObjectName, PortSpec, Protocol, Service},
    source::Object,
};
use shunt_harness::mock;
use shunt_plugins::{BackendPlugin, Mode, PluginError, Registry, Settings, compose};
use tokio_util::sync::CancellationToken;

struct PrintPlugin;
impl BackendPlugin for PrintPlugin {
    fn name(&self) -> &'static str {
        "print"
    }
    fn summary(&self) -> &'static str {
        "prints what it would do"
    }
    fn build(&self, _: &Settings) -> Result<Box<dyn LbBackend>, PluginError> {
        Ok(Box::new(Print))
    }
}

struct Print;
#[async_trait]
impl LbBackend for Print {
    async fn probe(&self) -> Probe {
        let (mut probe, mut capabilities) = (Probe::default(), Capabilities::default());
        capabilities.families.insert(Family::V4);
        capabilities.protocols.insert(Protocol::Tcp);
        probe.capabilities = Some(capabilities);
        probe
    }
    async fn start(&mut self, _bell: Bell) -> Result<(), BackendError> {
        Ok(())
    }
    async fn apply(&mut self, delta: &Delta) -> ApplyReport {
        println!("would bring into the kernel: {:?}", delta.service_ports.keys());
        ApplyReport::default()
    }
    async fn verify(&mut self) -> Verdict {
        Verdict::default()
    }
    async fn inspect(&self) -> Result<Inspection, BackendError> {
        Ok(Inspection::default())
    }
    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError> {
        Ok(Vec::new())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let registry = Registry::builtin().with_backend(&PrintPlugin);
    let mode = Mode::Named("print".into());
    let composition = compose(&registry, &mode, &Settings::new("node-a")).await?;
    println!("{:?}", composition.lines);
    let (source, script) = mock::source();
    let (options, sources) = (EngineOptions::new("node-a"), vec![mock::named("mock", source)]);
    let engine = Engine::new(options, sources, composition.backends);
    let (mut status, shutdown) = (engine.status(), CancellationToken::new());
    let running = tokio::spawn(engine.run(shutdown.clone()));
    let mut service = Service::new(ObjectName::new("default", "web"));
    service.cluster_ips = vec![[10, 96, 0, 1].into()].into();
    let (name, protocol, port) = ("".into(), Protocol::Tcp, std::num::NonZeroU16::MIN);
    service.ports = vec![PortSpec { name, protocol, port, node_port: None }].into();
    script.upsert(Object::from(service));
    script.synced();
    status.wait_for(|status| status.backends["print"].applied > 1).await?;
    shutdown.cancel();
    Ok(running.await??)
}
