//! The Kubernetes objects of the demo, as files that the agent reads and follows.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use shunt_core::model::Family;
use shunt_harness::world::{Addresses, Pod, World};

/// The port at which every Service is dialled.
pub(super) const PORT: u16 = 80;
/// The port at which echo pods listen.
pub(super) const TARGET_PORT: u16 = 8080;

/// A Service of the demo, in namespace `shop`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    /// The last number of its ClusterIPs.
    number: u8,
}

/// Served by all echo pods.
pub(super) const ECHO: Service = Service { name: "echo", number: 10 };
/// Served by one pod: the price of a connect is compared with dialling that pod.
pub(super) const SINGLE: Service = Service { name: "single", number: 11 };
/// Served by nobody.
pub(super) const DARK: Service = Service { name: "dark", number: 12 };

impl Service {
    /// Its ClusterIP of a family, with the port.
    pub(super) fn at(self, family: Family) -> SocketAddr {
        let ip: IpAddr = match family {
            Family::V4 => IpAddr::from([10, 96, 0, self.number]),
            Family::V6 => IpAddr::from([0xfd96, 0, 0, 0, 0, 0, 0, u16::from(self.number)]),
        };
        SocketAddr::new(ip, PORT)
    }

    fn object(self) -> String {
        let (v4, v6) = (self.at(Family::V4).ip(), self.at(Family::V6).ip());
        format!(
            "\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  clusterIP: {v4}
  clusterIPs: [\"{v4}\", \"{v6}\"]
  ipFamilies: [IPv4, IPv6]
  ports:
  - {{name: tcp, protocol: TCP, port: {PORT}, targetPort: {TARGET_PORT}}}
  - {{name: udp, protocol: UDP, port: {PORT}, targetPort: {TARGET_PORT}}}
---
",
            name = self.name,
        )
    }
}

/// The folder that the agent reads.
#[derive(Debug)]
pub(super) struct Manifests {
    folder: PathBuf,
    /// Where a file is written before it takes its place at once.
    draft: PathBuf,
}

impl Manifests {
    /// Writes the Services, the Node and the endpoints that everything begins with.
    pub(super) fn write(world: &World, echo: &[&Pod]) -> Result<Self> {
        let folder = world.folder().join("manifests");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let manifests = Self { folder, draft: world.folder().join("draft.yaml") };
        let services = [ECHO, SINGLE, DARK].map(Service::object).concat();
        manifests.put("services.yaml", &services)?;
        manifests.put("node.yaml", &node(world.host().addresses()))?;
        manifests.endpoints(SINGLE, echo.get(..1).unwrap_or_default())?;
        manifests.endpoints(ECHO, echo)?;
        Ok(manifests)
    }

    /// Says which pods serve a Service from now on.
    pub(super) fn endpoints(&self, service: Service, pods: &[&Pod]) -> Result<()> {
        let slices = Family::ALL.map(|family| slice(service, family, pods));
        self.put(&format!("{}-endpoints.yaml", service.name), &slices.concat())
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file appears, or changes, as a whole.
    fn put(&self, name: &str, text: &str) -> Result<()> {
        fs::write(&self.draft, text)
            .and_then(|()| fs::rename(&self.draft, self.folder.join(name)))
            .with_context(|| format!("cannot write {name} in {}", self.folder.display()))
    }
}

fn slice(service: Service, family: Family, pods: &[&Pod]) -> String {
    let name = service.name;
    let mut text = format!(
        "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-{}
  namespace: shop
  labels: {{kubernetes.io/service-name: {name}}}
addressType: {family}
ports:
- {{name: tcp, protocol: TCP, port: {TARGET_PORT}}}
- {{name: udp, protocol: UDP, port: {TARGET_PORT}}}
endpoints:
",
        family.to_string().to_lowercase(),
    );
    for pod in pods {
        let address = pod.addresses().of(family);
        // A String takes whatever is written to it.
        let _ = writeln!(text, "- {{addresses: [\"{address}\"], nodeName: {}}}", pod.node());
    }
    if pods.is_empty() {
        text += "  []\n";
    }
    text + "---\n"
}

fn node(addresses: Addresses) -> String {
    format!(
        "\
apiVersion: v1
kind: Node
metadata: {{name: {}}}
status:
  addresses:
  - {{type: InternalIP, address: \"{}\"}}
  - {{type: InternalIP, address: \"{}\"}}
",
        World::OWN_NODE,
        addresses.v4,
        addresses.v6,
    )
}
