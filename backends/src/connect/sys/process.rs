//! A connection from a process of its own: the canary must run where the programs are attached,
//! and the agent may not be there.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// A socket address as the kernel reads it, long enough for IPv6.
type RawAddress = [u8; 28];

/// What the child says: how far it came, the error there, and the peer's name.
type Message = [u8; 8 + 28];

const JOINED: i32 = 0;
const CONNECTED: i32 = 1;
const DONE: i32 = 2;

/// Why a connection from another process failed.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum ConnectError {
    /// The process could not be made, or said nothing.
    #[error("cannot run a process for the canary")]
    Process(#[source] io::Error),
    /// The process could not join the cgroup.
    #[error("cannot join the cgroup")]
    Join(#[source] io::Error),
    /// The connection failed.
    #[error("connect failed")]
    Connect(#[source] io::Error),
}

/// Forks a process that joins a cgroup (`procs` is its `cgroup.procs`), connects over TCP, and
/// says what getpeername gives.
pub(in super::super) fn connect_from(
    procs: BorrowedFd<'_>,
    to: SocketAddr,
) -> Result<SocketAddr, ConnectError> {
    let (reader, writer) = pipe().map_err(ConnectError::Process)?;
    let (address, len) = encode(to);
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the child calls only what is async-signal-safe, allocates nothing, takes no lock and
    // never returns: `run_child` says so.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(ConnectError::Process(io::Error::last_os_error()));
    }
    if child == 0 {
        run_child(procs.as_raw_fd(), writer.as_raw_fd(), family, &address, len);
    }
    drop(writer);
    let mut message: Message = [0; 36];
    let said = File::from(reader).read_exact(&mut message);
    let mut status = 0;
    // SAFETY: our own child, which nobody else waits for; `status` is writable.
    let _ = unsafe { libc::waitpid(child, &raw mut status, 0) };
    said.map_err(ConnectError::Process)?;
    decode_message(&message)
}

fn decode_message(message: &Message) -> Result<SocketAddr, ConnectError> {
    let [a, b, c, d, e, f, g, h, address @ ..] = *message;
    let error = io::Error::from_raw_os_error(i32::from_ne_bytes([e, f, g, h]));
    match i32::from_ne_bytes([a, b, c, d]) {
        DONE => decode(&address).ok_or(ConnectError::Connect(error)),
        JOINED => Err(ConnectError::Join(error)),
        _ => Err(ConnectError::Connect(error)),
    }
}

/// The child. After fork only async-signal-safe calls are allowed: other threads may have held
/// locks, the allocator's too.
fn run_child(procs: RawFd, pipe: RawFd, family: i32, address: &RawAddress, len: u32) -> ! {
    let mut message: Message = [0; 36];
    let (head, peer) = message.split_at_mut(8);
    let step = attempt(procs, family, address, len, peer);
    // This only reads errno.
    let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    let numbers = step.to_ne_bytes().into_iter().chain(error.to_ne_bytes());
    head.iter_mut().zip(numbers).for_each(|(byte, number)| *byte = number);
    // SAFETY: `message` is readable for its length.
    let _ = unsafe { libc::write(pipe, message.as_ptr().cast(), message.len()) };
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

/// How far the child comes; errno says what stopped it.
fn attempt(procs: RawFd, family: i32, address: &RawAddress, len: u32, peer: &mut [u8]) -> i32 {
    // SAFETY: one readable byte; "0" means the writing process.
    if unsafe { libc::write(procs, b"0".as_ptr().cast(), 1) } < 1 {
        return JOINED;
    }
    // SAFETY: no memory of ours is involved.
    let socket = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    let patience = libc::timeval { tv_sec: 1, tv_usec: 0 };
    // SAFETY: `patience` is readable for its size.
    let _ = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const patience).cast(),
            size_of_val(&patience) as u32,
        )
    };
    // SAFETY: `address` is readable for `len` bytes.
    if unsafe { libc::connect(socket, address.as_ptr().cast(), len) } < 0 {
        return CONNECTED;
    }
    let mut room = peer.len() as u32;
    // SAFETY: `peer` is writable for `room` bytes.
    if unsafe { libc::getpeername(socket, peer.as_mut_ptr().cast(), &raw mut room) } < 0 {
        return CONNECTED;
    }
    DONE
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is writable for two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let [reader, writer] = fds;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let reader = unsafe { OwnedFd::from_raw_fd(reader) };
    // SAFETY: as above.
    let writer = unsafe { OwnedFd::from_raw_fd(writer) };
    Ok((reader, writer))
}

/// A socket address in the kernel's layout, and its length.
fn encode(address: SocketAddr) -> (RawAddress, u32) {
    let port = address.port().to_be_bytes();
    let (family, rest, len): (i32, Vec<u8>, u32) = match address.ip() {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec(), 16),
        IpAddr::V6(ip) => (libc::AF_INET6, [&[0; 4][..], &ip.octets()].concat(), 28),
    };
    let family = (family as u16).to_ne_bytes();
    let bytes = family.into_iter().chain(port).chain(rest);
    let mut raw: RawAddress = [0; 28];
    raw.iter_mut().zip(bytes).for_each(|(byte, value)| *byte = value);
    (raw, len)
}

/// The way back; `None` if it is of no family that we dialled.
fn decode(raw: &RawAddress) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*raw.first_chunk()?));
    let port = u16::from_be_bytes(*raw.get(2..)?.first_chunk()?);
    let ip = match family {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*raw.get(4..)?.first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*raw.get(8..)?.first_chunk::<16>()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for address in ["127.83.72.78:65535", "[fd00::1:2]:80", "[::ffff:10.0.0.1]:1"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(decode(&encode(address).0), Some(address));
        }
    }
}
