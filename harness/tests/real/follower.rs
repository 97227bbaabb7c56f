//! The kube source, running, and the model that it fills.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use shunt_core::{
    ServiceSource as _, Update,
    model::{Cluster, Dirty, ObjectName, ServiceType},
    source::{SourceName, UpdateSender},
};
use shunt_harness::{apiserver::Client, until};
use shunt_plugins::{
    KubeSettings,
    sources::kube::{Access, Contact, KubeSource},
};
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

/// No condition takes this long.
const LIMIT: Duration = Duration::from_secs(120);

/// How long the server may be silent here.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);

/// A source that runs, and the model that it fills.
pub(crate) struct Follower {
    pub(crate) cluster: Cluster,
    pub(crate) contact: Arc<Contact>,
    /// Removals seen so far.
    pub(crate) removed: usize,
    runtime: Runtime,
    queue: mpsc::Receiver<(SourceName, Update)>,
    name: SourceName,
    shutdown: CancellationToken,
}

impl Follower {
    /// Starts a source, for the Node `node-a`, by this kubeconfig.
    pub(crate) fn start(kubeconfig: PathBuf) -> Result<Self> {
        let mut settings = KubeSettings::default();
        settings.kubeconfig = Some(kubeconfig);
        settings.silence = SILENCE;
        settings.connect = SILENCE;
        settings.longest_wait = Duration::from_millis(100);
        (settings.qps, settings.burst) = (1000.0, 1000);
        let source = KubeSource::new(Access::new(settings)?, &"node-a".into());
        let contact = source.contact();
        let (sender, queue) = mpsc::channel(64);
        let name = SourceName::new("kube");
        let updates = UpdateSender::new(name.clone(), sender);
        let shutdown = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot make a runtime")?;
        runtime.spawn(Box::new(source).run(updates, shutdown.clone()));
        let cluster = Cluster::new("node-a".into());
        Ok(Self { cluster, contact, removed: 0, runtime, queue, name, shutdown })
    }

    /// Takes updates in until the model is as it should be.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Cluster) -> bool) -> Result<()> {
        let (queue, cluster, removed) = (&mut self.queue, &mut self.cluster, &mut self.removed);
        let taking = async {
            let mut next = None;
            loop {
                // What has come is taken in as a whole: looking at a big model takes time.
                while let Some((source, update)) = next.take().or_else(|| queue.try_recv().ok()) {
                    *removed += usize::from(matches!(update, Update::Remove(_)));
                    cluster.apply(&source, update, &mut Dirty::default());
                }
                if is_so(cluster) {
                    break;
                }
                next = Some(queue.recv().await.context("the source ended")?);
            }
            anyhow::Ok(())
        };
        let done = self.runtime.block_on(async { timeout(LIMIT, taking).await });
        done.with_context(|| format!("it never came to be so: {what}"))?
    }

    pub(crate) fn until_synced(&mut self) -> Result<()> {
        let name = self.name.clone();
        self.until("synced", |cluster| cluster.synced(&name).is_some())
    }

    /// Whether everything has been listed once.
    pub(crate) fn is_synced(&self) -> bool {
        self.cluster.synced(&self.name).is_some()
    }

    /// Takes in whatever has come so far.
    pub(crate) fn take_what_is_there(&mut self) {
        while let Ok((source, update)) = self.queue.try_recv() {
            self.removed += usize::from(matches!(update, Update::Remove(_)));
            self.cluster.apply(&source, update, &mut Dirty::default());
        }
    }

    /// Takes updates in until the model has what the server has.
    pub(crate) fn until_as_server_says(&mut self, client: &Client) -> Result<()> {
        let services = services_of_server(client)?;
        let slices = slices_of_server(client)?;
        let same = self.until("the model to be as the server says", |cluster| {
            services_of(cluster) == services && slices_of(cluster, &services) == slices
        });
        same.with_context(|| {
            let (here, there) = (services_of(&self.cluster), slices_of(&self.cluster, &services));
            format!(
                "Services {}; slices {}",
                difference(&services, &here),
                difference(&slices, &there)
            )
        })
    }

    /// Waits until the source says that a watch fails.
    pub(crate) fn until_lost(&mut self) -> Result<()> {
        self.until_contact("lost", true)
    }

    /// Waits until it says that all are well.
    pub(crate) fn until_found(&mut self) -> Result<()> {
        self.until_contact("found again", false)
    }

    fn until_contact(&mut self, what: &str, lost: bool) -> Result<()> {
        let contact = Arc::clone(&self.contact);
        until(&format!("the server to be {what}"), LIMIT, || {
            // A full queue would hold the watches up.
            self.take_what_is_there();
            (contact.lost_since().is_some() == lost).then_some(())
        })
    }

    /// Takes updates in for as long as `period` while nothing is to be removed: what a test says
    /// about absence has no other end.
    pub(crate) fn loses_nothing_while(&mut self, period: Duration) -> Result<()> {
        let (before, start) = (self.removed, Instant::now());
        until("time to pass", LIMIT, || {
            self.take_what_is_there();
            (start.elapsed() > period).then_some(())
        })?;
        if self.removed != before {
            bail!("{} objects were removed", self.removed - before);
        }
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// What a Service is, in words; everything that the model keeps and a server decides.
type Words = BTreeMap<String, String>;

fn services_of(cluster: &Cluster) -> Words {
    let mut words = Words::new();
    for service in cluster.services() {
        // It has no address, so that nothing is served, whether it is kept or not.
        if service.cluster_ips.is_empty() || service.service_type == ServiceType::ExternalName {
            continue;
        }
        let ports: Vec<_> = service
            .ports
            .iter()
            .map(|port| {
                let node_port = port.node_port.map_or(0, u16::from);
                format!("{}/{}/{}/{node_port}", port.name, port.protocol, port.port)
            })
            .collect();
        let text = format!(
            "{:?} {:?} {:?} {}",
            service.cluster_ips,
            service.external_ips,
            service.load_balancer_ips,
            ports.join(" ")
        );
        words.insert(service.name.to_string(), text);
    }
    words
}

fn slices_of(cluster: &Cluster, services: &Words) -> Words {
    let mut words = Words::new();
    for service in services.keys() {
        let Some((namespace, name)) = service.split_once('/') else { continue };
        for slice in cluster.slices(&ObjectName::new(namespace, name)) {
            let endpoints: Vec<_> = slice
                .endpoints
                .iter()
                .map(|endpoint| format!("{} {}", endpoint.address, endpoint.conditions.ready))
                .collect();
            let ports: Vec<_> = slice.ports.iter().map(|port| port.port.to_string()).collect();
            let text = format!("{service} {} {}", endpoints.join(","), ports.join(","));
            words.insert(slice.name.to_string(), text);
        }
    }
    words
}

fn services_of_server(client: &Client) -> Result<Words> {
    let mut words = Words::new();
    for service in items(&client.read("/api/v1/services")?) {
        let spec = &service["spec"];
        let is_other =
            service.pointer("/metadata/labels/service.kubernetes.io~1service-proxy-name").is_some();
        let address = spec["clusterIP"].as_str().unwrap_or_default();
        if is_other || address.is_empty() || address == "None" || spec["type"] == "ExternalName" {
            continue;
        }
        let ports: Vec<_> = items_of(spec, "ports")
            .map(|port| {
                let name = port["name"].as_str().unwrap_or_default();
                let protocol = port["protocol"].as_str().unwrap_or_default();
                format!(
                    "{name}/{protocol}/{}/{}",
                    port["port"],
                    port["nodePort"].as_u64().unwrap_or(0)
                )
            })
            .collect();
        let vips: Vec<_> = items_of(&service["status"]["loadBalancer"], "ingress")
            .filter(|ingress| ingress["ipMode"] != "Proxy")
            .filter_map(|ingress| ingress["ip"].as_str())
            .collect();
        let text = format!(
            "{} {} [{}] {}",
            list(spec, "clusterIPs"),
            list(spec, "externalIPs"),
            vips.join(", "),
            ports.join(" ")
        );
        words.insert(name_of(service), text);
    }
    Ok(words)
}

fn slices_of_server(client: &Client) -> Result<Words> {
    let services = services_of_server(client)?;
    let mut words = Words::new();
    for slice in items(&client.read("/apis/discovery.k8s.io/v1/endpointslices")?) {
        let labels = &slice["metadata"]["labels"];
        let namespace = slice["metadata"]["namespace"].as_str().unwrap_or_default();
        let owner = labels["kubernetes.io/service-name"].as_str().unwrap_or_default();
        let service = format!("{namespace}/{owner}");
        let is_ours = labels.get("service.kubernetes.io/headless").is_none();
        if !is_ours || !services.contains_key(&service) || slice["addressType"] == "FQDN" {
            continue;
        }
        let endpoints: Vec<_> = items_of(slice, "endpoints")
            .map(|endpoint| {
                let address = endpoint["addresses"][0].as_str().unwrap_or_default();
                format!("{address} {}", endpoint["conditions"]["ready"].as_bool().unwrap_or(true))
            })
            .collect();
        let ports: Vec<_> = items_of(slice, "ports").map(|port| port["port"].to_string()).collect();
        let text = format!("{service} {} {}", endpoints.join(","), ports.join(","));
        words.insert(name_of(slice), text);
    }
    Ok(words)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    items_of(list, "items")
}

fn items_of<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    object[field].as_array().into_iter().flatten()
}

/// A list of addresses as the model's words have it.
fn list(object: &Value, field: &str) -> String {
    let texts: Vec<_> = items_of(object, field).filter_map(Value::as_str).collect();
    format!("[{}]", texts.join(", "))
}

fn name_of(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// The first thing that is not the same.
fn difference(server: &Words, model: &Words) -> String {
    let names = server.keys().chain(model.keys());
    let different = names.into_iter().find(|name| server.get(*name) != model.get(*name));
    different.map_or_else(
        || "are the same".to_owned(),
        |name| format!("{name}: {:?} at the server, {:?} here", server.get(name), model.get(name)),
    )
}
