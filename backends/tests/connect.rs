//! The connect-time backend on this machine's kernel, in a cgroup and a bpffs of its own.

#![expect(
    clippy::unwrap_used,
    clippy::field_reassign_with_default,
    reason = "a test ends where something is not as it should be, and a Delta cannot be written as a literal"
)]

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroU16,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::Arc,
};

use shunt_backends::connect::{ConnectBackend, ConnectOptions, TableSizes};
use shunt_core::{
    LbBackend as _,
    backend::{Answer, Bell},
    model::{Family, ObjectName, Protocol},
    plan::{Delta, Endpoint, Frontend, FrontendKind, ServicePort, ServicePortKey},
};

/// A cgroup that this process is in, and a bpffs, both gone when this is dropped.
struct Place {
    before: PathBuf,
    cgroup: PathBuf,
    bpffs: tempfile::TempDir,
}

impl Place {
    fn new(name: &str) -> Self {
        let root = shunt_harness::world::cgroup2_mount().unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
        let cgroup = root.join(format!("shunt-test-{name}-{}", process::id()));
        fs::create_dir(&cgroup).unwrap();
        let bpffs = tempfile::tempdir().unwrap();
        let place = Self { before: root.join(own), cgroup, bpffs };
        run("mount", &["-t", "bpf", "bpf", place.bpffs.path().to_str().unwrap()]);
        enter(&place.cgroup);
        place
    }

    fn backend(&self) -> ConnectBackend {
        self.backend_with(TableSizes::default())
    }

    fn backend_with(&self, sizes: TableSizes) -> ConnectBackend {
        let mut options = ConnectOptions::default();
        options.cgroup = Some(self.cgroup.clone());
        options.pin_path = self.pins();
        options.sizes = sizes;
        ConnectBackend::new(options)
    }

    fn pins(&self) -> PathBuf {
        self.bpffs.path().join("shunt")
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.contains(&format!(" {} ", self.bpffs.path().display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        enter(&self.before);
        if self.is_mounted() {
            run("umount", &["-l", self.bpffs.path().to_str().unwrap()]);
        }
        fs::remove_dir(&self.cgroup).unwrap();
    }
}

fn enter(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), process::id().to_string()).unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program}");
}

const CLUSTER_IP: &str = "10.96.0.77:80";

fn delta(endpoints: &[SocketAddr]) -> Delta {
    let key = ServicePortKey {
        service: ObjectName::new("default", "web"),
        port: "http".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    };
    let frontend: SocketAddr = CLUSTER_IP.parse().unwrap();
    let mut port = ServicePort::new();
    let number = NonZeroU16::new(frontend.port()).unwrap();
    port.frontends = vec![Frontend::new(FrontendKind::ClusterIp(frontend.ip()), number)].into();
    port.endpoints = endpoints.iter().map(|address| Endpoint::new(*address)).collect();
    port.has_any = !endpoints.is_empty();
    let mut delta = Delta::default();
    delta.complete = true;
    delta.service_ports.insert(key, Some(Arc::new(port)));
    delta
}

/// Connects to the Service; what the application sees, and where it arrived.
fn dial(listener: &TcpListener) -> io::Result<SocketAddr> {
    let stream = TcpStream::connect(CLUSTER_IP)?;
    let peer = stream.peer_addr()?;
    let (_, from) = listener.accept()?;
    assert_eq!(from, stream.local_addr()?);
    Ok(peer)
}

/// One process can be in one cgroup only, so this is one test: the life of an agent and its
/// successors.
#[tokio::test]
async fn from_start_to_cleanup() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new("life");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap();
    let service: SocketAddr = CLUSTER_IP.parse().unwrap();

    let mut first = place.backend();
    let probe = first.probe().await;
    let missing: Vec<_> = probe.missing().collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!place.pins().exists(), "probing leaves no trace");
    first.start(Bell::default()).await.unwrap();
    assert!(first.apply(&delta(&[endpoint])).await.is_success());
    assert_eq!(dial(&listener).unwrap(), service);
    let verdict = first.verify().await;
    assert!(verdict.problems.is_empty() && verdict.repaired.is_empty(), "{verdict:?}");

    // A second agent is refused, and told who the first is.
    let refusal = place.backend().start(Bell::default()).await.unwrap_err();
    let text = format!("{}: {}", refusal, refusal.cause);
    assert!(text.contains(&format!("(pid {})", process::id())), "{text}");

    // Without endpoints the call is refused at once, and other Services are not touched.
    assert!(first.apply(&delta(&[])).await.is_success());
    let error = TcpStream::connect(CLUSTER_IP).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(first.apply(&delta(&[endpoint])).await.is_success());

    // The agent ends; what it wrote goes on, and can be read.
    drop(first);
    assert_eq!(dial(&listener).unwrap(), service);
    let inspection = place.backend().inspect().await.unwrap();
    let [found] = inspection.services.as_slice() else { panic!("{inspection:?}") };
    assert_eq!(found.key.to_string(), "default/web:http TCP IPv4");
    let answers: Vec<_> = found.frontends.iter().map(|frontend| &frontend.answer).collect();
    assert_eq!(answers, [&Answer::Endpoints(vec![endpoint])]);

    // Its successor takes over, without a gap and before it knows any Service.
    let old = TcpStream::connect(CLUSTER_IP).unwrap();
    listener.accept().unwrap();
    let mut second = place.backend();
    second.start(Bell::default()).await.unwrap();
    assert_eq!(dial(&listener).unwrap(), service);
    let verdict = second.verify().await;
    assert!(verdict.problems.is_empty() && verdict.repaired.is_empty(), "{verdict:?}");
    assert!(second.apply(&delta(&[endpoint])).await.is_success());
    drop(second);

    // Other sizes are other tables: they serve when they are filled, and sockets keep their names.
    let mut sizes = TableSizes::default();
    sizes.endpoints = 1024;
    let mut third = place.backend_with(sizes);
    third.start(Bell::default()).await.unwrap();
    assert_eq!(TcpStream::connect(CLUSTER_IP).unwrap().peer_addr().unwrap(), service);
    assert!(!third.verify().await.problems.is_empty(), "the programs have not moved yet");
    assert!(third.apply(&delta(&[endpoint])).await.is_success());
    assert_eq!(TcpStream::connect(CLUSTER_IP).unwrap().peer_addr().unwrap(), service);
    assert_eq!(old.peer_addr().unwrap(), service, "an old socket keeps its peer's name");
    let directories = fs::read_dir(place.pins()).unwrap().count();
    assert_eq!(directories, 3, "links, sockets and one directory of tables");
    let verdict = third.verify().await;
    assert!(verdict.problems.is_empty() && verdict.repaired.is_empty(), "{verdict:?}");

    // Someone removes a link and a map's pin.
    fs::remove_file(place.pins().join("links/connect4")).unwrap();
    let verdict = third.verify().await;
    assert!(verdict.problems.is_empty() && verdict.repaired.len() == 1, "{verdict:?}");
    assert_eq!(TcpStream::connect(CLUSTER_IP).unwrap().peer_addr().unwrap(), service);
    run("umount", &["-l", place.bpffs.path().to_str().unwrap()]);
    let verdict = third.verify().await;
    assert!(verdict.problems.iter().all(|text| text.contains("restart-safe")), "{verdict:?}");
    assert!(place.pins().join("links/connect4").exists());
    assert!(place.pins().join("sockets-v1/CONNECTED").exists());
    assert_eq!(place.backend().inspect().await.unwrap().services.len(), 1);
    assert_eq!(TcpStream::connect(CLUSTER_IP).unwrap().peer_addr().unwrap(), service);
    drop(third);

    let removed = place.backend().cleanup().await.unwrap();
    assert!(removed.iter().any(|line| line == "link connect4"), "{removed:?}");
    // The bpffs that verify mounted in place of the one that was gone.
    assert!(!place.is_mounted(), "{removed:?}");
    assert!(place.backend().cleanup().await.unwrap().is_empty());
    assert!(!place.pins().exists());
    assert_eq!(place.backend().inspect().await.unwrap(), Default::default());
}
