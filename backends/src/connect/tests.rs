//! The backend beside others on one machine: what they take away from it, what they put beside it,
//! and what it leaves.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    num::NonZeroU16,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::Arc,
};

use shunt_core::{
    LbBackend as _,
    backend::{Answer, Bell},
    model::{Family, ObjectName, Protocol},
    plan::{Delta, Endpoint, Frontend, FrontendKind, ServicePort, ServicePortKey},
};
use shunt_ebpf::{
    affinity::{Affinity, AffinityKey},
    tables::{Frontend4, FrontendKey4},
};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    ConnectBackend, ConnectOptions, TableSizes,
    hook::HOOKS,
    pins::Pins,
    program::Programs,
    slot::Slot,
    sys::{self, FileSystem, bytes_of, values_of},
    uncharged::uncharged,
};

/// `BPF_CGROUP_UDP4_SENDMSG`.
const SENDMSG4: u32 = 14;
/// `return 0`: the call fails with EPERM.
const DENY: [u64; 2] = [0xb7, 0x95];

/// A cgroup that this process is in, and a folder, both gone when this is dropped. A process can be
/// in one cgroup only, so there is one place at a time.
pub(super) struct Place {
    before: PathBuf,
    pub(super) cgroup: PathBuf,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    pub(super) async fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let root = shunt_harness::world::cgroup2_mount().unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
        let cgroup = root.join(format!("shunt-beside-{}", process::id()));
        fs::create_dir(&cgroup).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let place = Self { before: root.join(own), cgroup, folder, _alone: alone };
        enter(&place.cgroup);
        place
    }

    /// On no bpffs yet: the backend mounts one.
    fn parent(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn pins(&self) -> Pins {
        Pins::new(self.parent().join("shunt"))
    }

    pub(super) fn backend(&self) -> ConnectBackend {
        self.backend_with(TableSizes::default())
    }

    pub(super) fn backend_with(&self, sizes: TableSizes) -> ConnectBackend {
        ConnectBackend::new(ConnectOptions {
            cgroup: Some(self.cgroup.clone()),
            pin_path: self.pins().root().to_owned(),
            sizes,
        })
    }

    async fn started(&self) -> ConnectBackend {
        let mut backend = self.backend();
        backend.start(Bell::default()).await.unwrap();
        let mut nothing = Delta::default();
        nothing.complete = true;
        assert!(backend.apply(&nothing).await.is_success());
        backend
    }

    fn is_bpffs(&self) -> bool {
        FileSystem::of(self.parent()).unwrap() == FileSystem::BPF
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        enter(&self.before);
        if self.is_bpffs() {
            let status = Command::new("umount").arg("-l").arg(self.parent()).status();
            assert!(status.unwrap().success());
        }
        fs::remove_dir(&self.cgroup).unwrap();
    }
}

pub(super) fn enter(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), process::id().to_string()).unwrap();
}

/// What a verdict says, without the warning that a bpffs in a folder of this test is not the
/// host's.
pub(super) async fn verified(backend: &mut ConnectBackend) -> (Vec<String>, Vec<String>) {
    let mut verdict = backend.verify().await;
    verdict.problems.retain(|problem| !problem.contains("restart-safe"));
    (verdict.problems, verdict.repaired)
}

#[tokio::test]
async fn a_link_that_someone_detached_is_found_and_attached_again() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    let mut backend = place.started().await;
    assert_eq!(verified(&mut backend).await, (vec![], vec![]));
    for hook in HOOKS {
        let link = sys::object_get(&place.pins().links().join(hook.program)).unwrap();
        sys::link_detach(link.as_fd()).unwrap();
        let cgroup = fs::File::open(&place.cgroup).unwrap();
        let left = sys::effective_programs(cgroup.as_fd(), hook.attach_type).unwrap();
        assert!(left.is_empty(), "{} still runs", hook.program);
        let (problems, repaired) = verified(&mut backend).await;
        let expected =
            format!("The link of {} was detached and has been attached again.", hook.program);
        assert_eq!((problems, repaired), (vec![], vec![expected]));
        assert_eq!(verified(&mut backend).await, (vec![], vec![]), "{}", hook.program);
    }
    drop(backend);
    place.backend().cleanup().await.unwrap();
}

/// Another that came between pinned maps of its own, which the programs must use.
#[tokio::test]
async fn a_start_takes_what_the_probe_loaded_unless_something_else_is_pinned_by_then() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let ids = |programs: &Programs| programs.all().map(|(.., id)| id).collect::<Vec<_>>();
    let place = Place::new().await;
    let (mut early, mut other) = (place.backend(), place.backend());
    let mut tried = Vec::new();
    for backend in [&mut early, &mut other] {
        assert!(backend.probe().await.capabilities.is_some());
        let loaded = backend.loaded().as_ref();
        tried.push(ids(&loaded.unwrap().programs));
    }
    other.start(Bell::default()).await.unwrap();
    assert_eq!(ids(&other.running().as_ref().unwrap().programs), tried[1]);
    assert!(other.loaded().is_none());
    assert_eq!(verified(&mut other).await, (vec![], vec![]));
    // One of other sizes leaves it the memory, and loads again when it starts.
    let mut next = place.backend_with(TableSizes { seats: 64, lists: 64, ..TableSizes::default() });
    assert!(next.probe().await.capabilities.is_some());
    assert!(next.loaded().is_none());
    drop(other);
    early.start(Bell::default()).await.unwrap();
    assert_ne!(ids(&early.running().as_ref().unwrap().programs), tried[0]);
    assert_eq!(verified(&mut early).await, (vec![], vec![]));
    early.cleanup().await.unwrap();
}

/// What keeps a link from being mended is told by each of the three proofs that it concerns: the
/// link itself, the programs in effect, and the canary.
#[tokio::test]
async fn what_cannot_be_mended_is_a_problem() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    let mut backend = place.started().await;
    let pin = place.pins().links().join("getpeername4");
    sys::link_detach(sys::object_get(&pin).unwrap().as_fd()).unwrap();
    fs::remove_file(&pin).unwrap();
    fs::create_dir(&pin).unwrap();
    let (problems, _) = verified(&mut backend).await;
    for expected in ["link of getpeername4", "does not run getpeername4", "as peer"] {
        let found = problems.iter().any(|problem| problem.contains(expected));
        assert!(found, "{expected:?} is not in {problems:?}");
    }
    fs::remove_dir(&pin).unwrap();
    let (problems, repaired) = verified(&mut backend).await;
    assert!(problems.is_empty() && !repaired.is_empty(), "{problems:?} {repaired:?}");
    drop(backend);
    place.backend().cleanup().await.unwrap();
}

/// A ServicePort of TCP at a loopback address.
pub(super) fn service(
    name: &str,
    address: SocketAddr,
    endpoints: &[SocketAddr],
) -> (ServicePortKey, ServicePort) {
    let key = ServicePortKey {
        service: ObjectName::new("default", name),
        port: "".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    };
    let mut port = ServicePort::new();
    let number = NonZeroU16::new(address.port()).unwrap();
    port.frontends = vec![Frontend::new(FrontendKind::ClusterIp(address.ip()), number)].into();
    port.endpoints = endpoints.iter().map(|address| Endpoint::new(*address)).collect();
    port.has_any = true;
    (key, port)
}

/// Where a connection to the listener's address arrives: there (`true`), or somewhere else.
fn arrives(listener: &TcpListener) -> bool {
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let arrived = listener.accept().is_ok();
    drop(stream);
    arrived
}

/// The kernel may hand a program another key's value: such a value is put there by hand.
#[tokio::test]
async fn programs_believe_only_a_value_that_is_the_keys_own() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    let mut backend = place.started().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let [one, other] = ["127.83.1.1:0", "127.83.1.2:0"].map(|at| TcpListener::bind(at).unwrap());
    let (key, port) = service("one", one.local_addr().unwrap(), &[endpoint.local_addr().unwrap()]);
    let mut delta = Delta::default();
    delta.service_ports.insert(key, Some(Arc::new(port)));
    assert!(backend.apply(&delta).await.is_success());
    assert!(!arrives(&one), "a Service's address is translated");
    assert!(arrives(&other), "another address is not");

    let pin = place.pins().tables(&TableSizes::default()).join("FRONTENDS4");
    let frontends = sys::object_get(&pin).unwrap();
    let slot_of = |listener: &TcpListener| {
        let address = listener.local_addr().unwrap();
        let Slot::V4(key) = Slot::at(address.ip(), address.port(), 6) else { panic!("{address}") };
        key
    };
    let (one_key, other_key) = (slot_of(&one), slot_of(&other));
    let held = |wanted: FrontendKey4| {
        let (mut keys, mut values) = (vec![0; 8 * 4096], vec![0; 16 * 4096]);
        let read =
            sys::map_lookup_batch(frontends.as_fd(), &mut None, &mut keys, &mut values, 4096);
        read.unwrap();
        let mut pairs = values_of::<FrontendKey4>(&keys).zip(values_of::<Frontend4>(&values));
        pairs.find(|(key, _)| *key == wanted).unwrap().1
    };
    let sound = held(one_key);
    let put = |value: Frontend4| {
        let (key, value) = (bytes_of(&[other_key]).to_vec(), bytes_of(&[value]).to_vec());
        sys::map_update_batch(frontends.as_fd(), &key, &value, 1).1.unwrap();
    };
    put(sound);
    assert!(arrives(&other), "the value of another key was believed");
    put(Frontend4 { key: other_key, ..sound });
    assert!(arrives(&other), "a value with another key's seal was believed");
    let seal = other_key.seal(sound.target);
    put(Frontend4 { key: other_key, seal, ..sound });
    assert!(!arrives(&other), "the key's own value is believed");

    // All of this, and a frontend that is gone, is found and mended.
    sys::map_delete_batch(frontends.as_fd(), bytes_of(&[one_key]), 1).1.unwrap();
    assert!(arrives(&one));
    let (problems, repaired) = verified(&mut backend).await;
    assert_eq!((problems.len(), repaired.len()), (0, 1), "{problems:?} {repaired:?}");
    assert!(!arrives(&one) && arrives(&other), "{repaired:?}");
    drop(backend);
    place.backend().cleanup().await.unwrap();
}

#[tokio::test]
async fn ten_thousand_endpoints_of_one_service_are_served() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    let mut backend = place.started().await;
    // All of 127.0.0.0/8 is this machine: one listener is ten thousand endpoints.
    let all = TcpListener::bind("0.0.0.0:0").unwrap();
    let endpoints: Vec<SocketAddr> = (0..10_000_u32)
        .map(|number| {
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 100, 0, 0).to_bits() + number);
            SocketAddr::new(address.into(), all.local_addr().unwrap().port())
        })
        .collect();
    let frontend = TcpListener::bind("127.83.1.1:0").unwrap();
    let (key, port) = service("crowd", frontend.local_addr().unwrap(), &endpoints);
    let mut delta = Delta::default();
    delta.service_ports.insert(key, Some(Arc::new(port)));
    assert!(backend.apply(&delta).await.is_success());
    let mut reached = BTreeSet::new();
    for _ in 0..50 {
        assert!(!arrives(&frontend));
        reached.insert(all.accept().unwrap().0.local_addr().unwrap());
    }
    // Fewer than 40 different ones of 10,000 in 50 tries is as good as impossible.
    assert!(reached.len() >= 40, "{} different endpoints", reached.len());
    assert!(reached.iter().all(|endpoint| endpoints.contains(endpoint)), "{reached:?}");
    let inspection = backend.inspect().await.unwrap();
    let [found] = inspection.services.as_slice() else { panic!("{inspection:?}") };
    let [frontend] = found.frontends.as_slice() else { panic!("{found:?}") };
    let Answer::Endpoints(mut read) = frontend.answer.clone() else { panic!("{found:?}") };
    read.sort_unstable();
    assert!(read == endpoints, "{} endpoints are read back", read.len());
    drop(backend);
    place.backend().cleanup().await.unwrap();
}

/// The memory of an affinity that is another client's is not followed.
#[tokio::test]
async fn programs_believe_only_an_affinity_that_is_the_clients_own() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    let mut backend = place.started().await;
    let endpoints = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = endpoints.each_ref().map(|listener| listener.local_addr().unwrap());
    let frontend = TcpListener::bind("127.83.1.1:0").unwrap();
    let (key, mut port) = service("sticky", frontend.local_addr().unwrap(), &addresses);
    port.affinity_seconds = Some(3600);
    let mut delta = Delta::default();
    delta.service_ports.insert(key, Some(Arc::new(port)));
    assert!(backend.apply(&delta).await.is_success());
    let pin = place.pins().tables(&TableSizes::default()).join("AFFINITY");
    let memory = sys::object_get(&pin).unwrap();
    let reached = |endpoint: &TcpListener| {
        let stream = TcpStream::connect(frontend.local_addr().unwrap()).unwrap();
        endpoint.set_nonblocking(true).unwrap();
        let arrived = endpoint.accept().is_ok();
        endpoints.iter().for_each(|listener| drop(listener.accept()));
        drop(stream);
        arrived
    };
    endpoints.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
    let [first, _] = &endpoints;
    let to_first = reached(first);
    let (mut keys, mut values) = (vec![0; 16 * 4096], vec![0; 48 * 4096]);
    sys::map_lookup_batch(memory.as_fd(), &mut None, &mut keys, &mut values, 4096).unwrap();
    let own = values_of::<AffinityKey>(&keys).next().unwrap();
    let sound = values_of::<Affinity>(&values).next().unwrap();
    assert_eq!(sound.key, own);
    // With a foreign key in it, every time anew, the choice is free: in 40 calls both are reached.
    let foreign = Affinity { key: AffinityKey { netns: own.netns + 1, ..own }, ..sound };
    let elsewhere = (0..40).any(|_| {
        sys::map_update_batch(memory.as_fd(), bytes_of(&[own]), bytes_of(&[foreign]), 1).1.unwrap();
        reached(first) != to_first
    });
    assert!(elsewhere, "the memory of another client was followed");
    drop(backend);
    place.backend().cleanup().await.unwrap();
}

/// A program of someone else that forbids datagrams with an address: whether it runs can be seen.
fn attach_foreign(cgroup: &Path) -> OwnedFd {
    let program = sys::load_sock_addr(SENDMSG4, &DENY).unwrap();
    let cgroup = fs::File::open(cgroup).unwrap();
    sys::link_create(program.as_raw_fd(), cgroup.as_raw_fd(), SENDMSG4).unwrap()
}

fn may_send() -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    match socket.send_to(b"x", socket.local_addr().unwrap()) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn programs_of_others_on_the_cgroup_stay_and_run() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    assert!(may_send());
    let before = attach_foreign(&place.cgroup);
    assert!(!may_send());
    let mut first = place.started().await;
    let after = attach_foreign(&place.cgroup);
    let still_there = |when: &str| {
        for link in [&before, &after] {
            assert_ne!(sys::link_info(link.as_fd()).unwrap().cgroup, 0, "detached {when}");
        }
        assert!(!may_send(), "does not run {when}");
    };
    still_there("at the start");
    assert_eq!(verified(&mut first).await, (vec![], vec![]));
    still_there("when verified");
    drop(first);
    let mut second = place.started().await;
    assert_eq!(verified(&mut second).await, (vec![], vec![]));
    still_there("at take-over");
    drop(second);
    place.backend().cleanup().await.unwrap();
    still_there("at clean-up");
    sys::link_detach(before.as_fd()).unwrap();
    sys::link_detach(after.as_fd()).unwrap();
    assert!(may_send());
}

#[tokio::test]
async fn cleanup_takes_back_the_bpffs_that_the_agent_mounted() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    drop(place.started().await);
    assert!(place.is_bpffs());
    // Someone else uses it too.
    let theirs = place.parent().join("theirs");
    fs::create_dir(&theirs).unwrap();
    let removed = place.backend().cleanup().await.unwrap();
    assert!(!removed.iter().any(|line| line.starts_with("mount ")), "{removed:?}");
    assert!(theirs.exists());
    fs::remove_dir(&theirs).unwrap();

    let removed = place.backend().cleanup().await.unwrap();
    assert_eq!(removed, [format!("mount {}", place.parent().display())]);
    assert!(!place.is_bpffs());
    assert!(place.backend().cleanup().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_left_whole_says_why() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let place = Place::new().await;
    let mut backend = place.started().await;
    let key = ServicePortKey {
        service: ObjectName::new("default", "signalling"),
        port: "".into(),
        protocol: Protocol::Sctp,
        family: Family::V4,
    };
    let mut delta = Delta::default();
    delta.service_ports.insert(key.clone(), Some(Arc::new(ServicePort::new())));
    assert!(backend.apply(&delta).await.is_success());
    let inspection = backend.inspect().await.unwrap();
    let [service] = inspection.services.as_slice() else { panic!("{inspection:?}") };
    assert_eq!(service.key, key);
    assert_eq!(service.left, Some("its protocol is not taken at connect()"));
    drop(backend);
    place.backend().cleanup().await.unwrap();
}

#[test]
fn a_grace_period_can_be_waited_for_without_membarrier() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    sys::wait_for_programs().unwrap();
}

#[tokio::test]
async fn work_in_the_root_memory_cgroup_ends_where_it_began() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let _place = Place::new().await;
    // Its own line for the thread: of the first version of cgroups, threads move by themselves.
    let own = || fs::read_to_string("/proc/thread-self/cgroup").unwrap();
    let memory = |text: &str| {
        let lines =
            text.lines().filter(|line| line.contains(":memory:") || line.starts_with("0::"));
        lines.map(|line| line.rsplit(':').next().unwrap().to_owned()).next().unwrap()
    };
    let before = own();
    let inside = uncharged(own);
    assert_eq!(memory(&inside), "/", "{inside}");
    assert_eq!(own(), before);
}
