//! Seats of connected UDP sockets: who takes them, who leaves them, and who has none.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::{Command, Stdio},
    sync::Arc,
};

use shunt_core::{
    LbBackend as _,
    backend::Bell,
    model::Protocol,
    plan::{Delta, ServicePortKey},
};
use shunt_ebpf::{
    address::Address,
    socket::{Connected, Seat, Tuple, seat_index},
};

use super::super::{
    ConnectBackend, TableSizes,
    sys::{self, bytes_of, values_of},
    tests::{Place, enter, service, verified},
};

/// So many seats, few enough to be read at once.
const COUNT: u32 = 64;

/// Two Services of UDP with the same endpoint, and a backend that serves them.
struct Scene {
    place: Place,
    backend: ConnectBackend,
    endpoint: UdpSocket,
    services: [SocketAddr; 2],
}

impl Scene {
    async fn new() -> Self {
        let place = Place::new().await;
        let endpoint = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = endpoint.local_addr().unwrap().port();
        let services =
            [1, 2].map(|last| SocketAddr::new(Ipv4Addr::new(127, 83, 1, last).into(), port));
        let backend = Self::backend(&place);
        let mut scene = Self { place, backend, endpoint, services };
        scene.serve().await;
        scene
    }

    fn backend(place: &Place) -> ConnectBackend {
        place.backend_with(TableSizes { seats: COUNT, ..TableSizes::default() })
    }

    async fn serve(&mut self) {
        self.backend.start(Bell::default()).await.unwrap();
        let mut delta = Delta::default();
        delta.complete = true;
        let endpoints = [self.endpoint.local_addr().unwrap()];
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            for address in self.services {
                let (key, port) = service(&address.to_string(), address, &endpoints);
                let key = ServicePortKey { protocol, ..key };
                delta.service_ports.insert(key, Some(Arc::new(port)));
            }
        }
        assert!(self.backend.apply(&delta).await.is_success());
    }

    /// The next version's agent, so to say.
    async fn restart(&mut self) {
        // Gives up the lock before the next one wants it.
        self.backend = self.place.backend();
        self.backend = Self::backend(&self.place);
        self.serve().await;
    }

    fn map(&self) -> OwnedFd {
        sys::object_get(&self.place.pins().sockets().join("SEATS")).unwrap()
    }

    fn all(&self) -> Vec<Seat> {
        let count = COUNT as usize;
        let (mut keys, mut values) = (vec![0; 4 * count], vec![0; size_of::<Seat>() * count]);
        let read =
            sys::map_lookup_batch(self.map().as_fd(), &mut None, &mut keys, &mut values, COUNT);
        assert_eq!(read.unwrap().0, COUNT);
        values_of(&values).collect()
    }

    /// What is in the seats that are taken; each by the one socket that may.
    fn taken(&self) -> Vec<Connected> {
        let taken = (0..).zip(self.all()).filter(|(_, seat)| seat.cookie != 0);
        let own = |(index, seat): (u32, Seat)| {
            assert_eq!(seat_index(seat.cookie, COUNT), index, "{seat:?}");
            seat.connected
        };
        taken.map(own).collect()
    }

    /// Seats strangers everywhere, or nobody.
    fn fill(&self, is_taken: bool) {
        let strangers = (1_u64 << 40..).step_by(COUNT as usize).zip(0..COUNT);
        let seat = |(cookie, index)| Seat {
            cookie: if is_taken { cookie + u64::from(index) } else { 0 },
            ..Seat::default()
        };
        let seats: Vec<Seat> = strangers.map(seat).collect();
        let keys: Vec<u32> = (0..COUNT).collect();
        let (written, result) =
            sys::map_update_batch(self.map().as_fd(), bytes_of(&keys), bytes_of(&seats), COUNT);
        result.unwrap();
        assert_eq!(written, COUNT);
    }

    /// A socket that is connected to one of the Services, and knows it.
    fn connected(&self, number: usize) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        self.connect(&socket, number);
        socket
    }

    fn connect(&self, socket: &UdpSocket, number: usize) {
        socket.connect(self.services[number]).unwrap();
        self.expect(socket, self.services[number]);
    }

    /// What both calls show that tell the peer's name.
    fn expect(&self, socket: &UdpSocket, peer: SocketAddr) {
        assert_eq!(socket.peer_addr().unwrap(), peer);
        self.endpoint.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert_eq!(socket.recv_from(&mut [0]).unwrap().1, peer);
    }

    async fn end(self) {
        drop(self.backend);
        self.place.backend().cleanup().await.unwrap();
    }
}

fn tuple(address: SocketAddr) -> Tuple {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
    let octets = ip.to_ipv6_mapped().octets();
    Tuple { address: Address::from_octets(octets), port: address.port(), zero: [0; 3] }
}

#[tokio::test]
async fn a_connected_udp_socket_has_a_seat_while_it_is_connected() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let scene = Scene::new().await;
    let endpoint = scene.endpoint.local_addr().unwrap();
    let socket = scene.connected(0);
    let [seat] = scene.taken()[..] else { panic!("{:?}", scene.taken()) };
    assert_eq!(seat.dialled, tuple(scene.services[0]));
    assert_eq!(seat.endpoint, tuple(endpoint));
    let inspection = scene.backend.inspect().await.unwrap();
    let table = inspection.tables.iter().find(|table| table.name == "SEATS").unwrap();
    assert_eq!((table.used, table.size), (1, COUNT.into()));

    scene.connect(&socket, 1);
    let [seat] = scene.taken()[..] else { panic!("{:?}", scene.taken()) };
    assert_eq!(seat.dialled, tuple(scene.services[1]), "another Service in the same seat");
    socket.connect(endpoint).unwrap();
    scene.expect(&socket, endpoint);
    assert_eq!(scene.taken(), [], "connected to no Service");
    scene.connect(&socket, 0);
    drop(socket);
    assert_eq!(scene.taken(), [], "closed");

    let listener = TcpListener::bind(endpoint).unwrap();
    let stream = TcpStream::connect(scene.services[0]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), scene.services[0]);
    assert_eq!(scene.taken(), [], "TCP has no seats");
    drop((stream, listener));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", scene.services[0]).unwrap();
    assert_eq!(scene.taken(), [], "a socket that is not connected has none");
    scene.end().await;
}

/// However a socket ends that a process had, its seat is free.
#[tokio::test]
async fn a_seat_is_left_however_the_socket_ends() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let scene = Scene::new().await;
    let socket = scene.connected(0);
    let copy = socket.try_clone().unwrap();
    drop(socket);
    scene.expect(&copy, scene.services[0]);
    assert_eq!(scene.taken().len(), 1, "another descriptor is open");

    // A process that was started with it, and is killed.
    let mut heir = Command::new("sleep").arg("60").stdin(OwnedFd::from(copy)).spawn().unwrap();
    assert_eq!(scene.taken().len(), 1, "inherited");
    heir.kill().unwrap();
    heir.wait().unwrap();
    assert_eq!(scene.taken(), [], "killed");

    // A cgroup that is gone before its socket is.
    let below = scene.place.cgroup.join("below");
    fs::create_dir(&below).unwrap();
    enter(&below);
    let socket = scene.connected(0);
    enter(&scene.place.cgroup);
    fs::remove_dir(&below).unwrap();
    assert_eq!(scene.taken().len(), 1);
    drop(socket);
    assert_eq!(scene.taken(), [], "of a removed cgroup");

    // A process that closes one socket itself and is killed while it has another; the second time
    // in a network namespace that goes with it.
    let port = scene.services[0].port();
    let script = format!(
        "exec 3<>/dev/udp/127.83.1.1/{port}; exec 3>&-
        exec 3<>/dev/udp/127.83.1.2/{port}; kill -9 $$"
    );
    let elsewhere = format!("ip link set lo up; {script}");
    for arguments in
        [vec!["bash", "-ec", &script], vec!["unshare", "-n", "bash", "-ec", &elsewhere]]
    {
        let [program, rest @ ..] = arguments.as_slice() else { panic!() };
        let status = Command::new(program).args(rest).stdin(Stdio::null()).status().unwrap();
        assert_eq!(status.signal(), Some(9), "{program}");
        assert_eq!(scene.taken(), [], "{program}");
    }
    scene.end().await;
}

/// Where the seat is taken there is storage; of the two, what the socket did last is believed.
#[tokio::test]
async fn a_socket_whose_seat_is_taken_has_storage() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let mut scene = Scene::new().await;
    let endpoint = scene.endpoint.local_addr().unwrap();
    scene.fill(true);
    let strangers = scene.all();
    let [first, second] = [0, 1].map(|number| scene.connected(number));
    scene.connect(&first, 1);
    assert_eq!(scene.all(), strangers, "a stranger's seat was touched");

    // The seat becomes free: the storage still holds, also for the next agent.
    scene.fill(false);
    scene.expect(&first, scene.services[1]);
    scene.restart().await;
    scene.expect(&first, scene.services[1]);
    assert_eq!(scene.taken(), []);

    // Both: the storage, which names another Service at the same endpoint, is out of date.
    scene.connect(&first, 0);
    assert_eq!(scene.taken().len(), 1);
    scene.restart().await;
    scene.expect(&first, scene.services[0]);
    assert_eq!(scene.taken().len(), 1, "a seat outlives the agent");

    // And goes with the seat.
    first.connect(endpoint).unwrap();
    scene.fill(true);
    scene.expect(&first, endpoint);
    scene.expect(&second, scene.services[1]);
    drop((first, second));
    assert_eq!(scene.all(), strangers, "a socket that ends leaves no other's seat");
    scene.end().await;
}

/// What a version left that had neither seats nor a program at `sock_release`.
#[tokio::test]
async fn sockets_from_before_there_were_seats_keep_their_names() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let mut scene = Scene::new().await;
    scene.fill(true);
    let old = scene.connected(0);
    scene.backend = scene.place.backend();
    fs::remove_file(scene.place.pins().sockets().join("SEATS")).unwrap();
    let link = scene.place.pins().links().join("sock_release");
    sys::link_detach(sys::object_get(&link).unwrap().as_fd()).unwrap();
    fs::remove_file(link).unwrap();

    scene.restart().await;
    assert_eq!(verified(&mut scene.backend).await, (vec![], vec![]));
    scene.expect(&old, scene.services[0]);
    assert_eq!(scene.taken(), []);
    let new = scene.connected(1);
    assert_eq!(scene.taken().len(), 1);
    scene.connect(&old, 1);
    assert_eq!(scene.taken().len(), 2, "the old one sits down when it connects again");
    drop((old, new));
    assert_eq!(scene.taken(), []);
    scene.end().await;
}

/// The number of seats is that of those that are there: living sockets sit there.
#[tokio::test]
async fn seats_keep_their_number_over_a_change_of_sizes() {
    if !shunt_harness::tier::may_run_privileged() {
        return;
    }
    let mut scene = Scene::new().await;
    let socket = scene.connected(0);
    scene.backend = scene.place.backend();
    scene.backend = scene.place.backend_with(TableSizes {
        seats: 2 * COUNT,
        endpoints: 1024,
        ..TableSizes::default()
    });
    scene.serve().await;
    scene.expect(&socket, scene.services[0]);
    let more: Vec<UdpSocket> = (0..4).map(|_| scene.connected(1)).collect();
    assert_eq!(scene.taken().len(), 5);
    assert_eq!(verified(&mut scene.backend).await, (vec![], vec![]));
    drop((socket, more));
    assert_eq!(scene.taken(), []);
    scene.end().await;
}
