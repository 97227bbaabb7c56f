//! The proof that the programs run: a connection of our own to a frontend of our own.
//!
//! Both ends are on loopback, so that no packet leaves if translation is gone. The frontend's own
//! address has a listener too: a connection that arrives there was not translated.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::AsFd as _,
    path::Path,
};

use shunt_core::model::Family;

use super::{
    cgroup::Cgroup,
    sys::{self, ConnectError},
};

/// The canary of one family.
#[derive(Debug)]
pub(super) struct Canary {
    frontend: TcpListener,
    endpoint: TcpListener,
    /// The frontend, for the tables.
    pub(super) dialled: SocketAddr,
    /// What it leads to, for the tables.
    pub(super) backend: SocketAddr,
}

impl Canary {
    /// Listens at both ends, at ports of the kernel's choice.
    ///
    /// # Errors
    ///
    /// Fails where the family has no loopback address here.
    pub(super) fn listen(family: Family) -> io::Result<Self> {
        let (frontend, endpoint) = match family {
            // 83, 72, 78: SHN.
            Family::V4 => {
                (IpAddr::V4(Ipv4Addr::new(127, 83, 72, 78)), IpAddr::V4(Ipv4Addr::LOCALHOST))
            }
            Family::V6 => (IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)),
        };
        let frontend = TcpListener::bind((frontend, 0))?;
        let endpoint = TcpListener::bind((endpoint, 0))?;
        frontend.set_nonblocking(true)?;
        endpoint.set_nonblocking(true)?;
        let (dialled, backend) = (frontend.local_addr()?, endpoint.local_addr()?);
        Ok(Self { frontend, endpoint, dialled, backend })
    }

    /// Connects from within the cgroup and looks where the connection arrives and what the client
    /// sees as its peer. Says what is wrong.
    pub(super) fn sing(&self, cgroup: &Cgroup) -> Result<(), String> {
        let result = connect_within(cgroup, self.dialled);
        let arrived = drain(&self.endpoint);
        let untranslated = drain(&self.frontend);
        let failed = |text: &str| Err(format!("canary to {}: {text}", self.dialled));
        match result {
            Ok(_) if untranslated || !arrived => failed("the connection was not translated"),
            Ok(peer) if peer != self.dialled => failed(&format!("the client sees {peer} as peer")),
            Ok(_) => Ok(()),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                failed(&format!("{error}: {}", cause.unwrap_or_default()))
            }
        }
    }
}

/// Takes what has arrived; true if something had.
fn drain(listener: &TcpListener) -> bool {
    std::iter::from_fn(|| listener.accept().ok()).count() > 0
}

/// Connects from a process in the cgroup itself or, where that has controllers for its children
/// and may hold no process, in a child that is made for the occasion.
fn connect_within(cgroup: &Cgroup, to: SocketAddr) -> Result<SocketAddr, ConnectError> {
    match sys::connect_from(open_procs(&cgroup.path)?.as_fd(), to) {
        Err(ConnectError::Join(_)) => {}
        other => return other,
    }
    let child = cgroup.path.join(format!("shunt-canary-{}", std::process::id()));
    match fs::create_dir(&child) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(ConnectError::Join(error));
        }
        _ => {}
    }
    let result = open_procs(&child).and_then(|procs| sys::connect_from(procs.as_fd(), to));
    if let Err(error) = fs::remove_dir(&child) {
        tracing::warn!(path = %child.display(), %error, "cannot remove the canary's cgroup");
    }
    result
}

fn open_procs(cgroup: &Path) -> Result<File, ConnectError> {
    let procs = OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"));
    procs.map_err(ConnectError::Join)
}
