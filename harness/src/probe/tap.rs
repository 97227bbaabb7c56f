//! What passes a namespace's interfaces, as a packet socket sees it.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt::RcvBufForce,
};
use serde::{Deserialize, Serialize};

use super::Failure;

/// Room for packets between two looks.
const ROOM: usize = 8 << 20;

/// How the kernel marks packets that leave: `PACKET_OUTGOING`.
const OUTGOING: u8 = 4;

/// A packet that was seen at some interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Whether it was on its way out of the namespace.
    pub outgoing: bool,
    /// The number of its protocol: 6 TCP, 17 UDP, 132 SCTP, 1 and 58 ICMP.
    pub protocol: u8,
    /// Where it comes from; without ports the port is 0.
    pub source: SocketAddr,
    /// Where it goes to; of ICMP, type and code stand in the place of the port.
    pub destination: SocketAddr,
}

/// A packet socket on all interfaces of the namespace. What passed before a look is seen by it:
/// the kernel puts a packet into the socket's buffer as it passes.
#[derive(Debug)]
pub(super) struct Tap(OwnedFd);

impl Tap {
    pub(super) fn open() -> Result<Self, Failure> {
        let open = || {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let (family, all) = (AddressFamily::Packet, SockProtocol::EthAll);
            let tap = socket(family, SockType::Datagram, flags, all)?;
            setsockopt(&tap, RcvBufForce, &ROOM)?;
            Ok(Self(tap))
        };
        open().map_err(|error: nix::Error| Failure::of("packet socket", &error.into()))
    }

    /// Everything that passed since the last look.
    pub(super) fn look(&self) -> Result<Vec<Sighting>, Failure> {
        let mut seen = Vec::new();
        let mut buffer = [0; 128];
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received =
                recvmsg::<LinkAddr>(self.0.as_raw_fd(), &mut parts, None, MsgFlags::empty());
            let (length, outgoing) = match received {
                Ok(message) => (
                    message.bytes,
                    message.address.is_some_and(|address| address.pkttype() == OUTGOING),
                ),
                Err(nix::Error::EAGAIN) => return Ok(seen),
                Err(error) => return Err(Failure::of("recvmsg", &io::Error::from(error))),
            };
            seen.extend(buffer.get(..length).and_then(|packet| read(packet, outgoing)));
        }
    }
}

/// Reads the headers of an IP packet; anything else is none.
fn read(packet: &[u8], outgoing: bool) -> Option<Sighting> {
    let (protocol, source, destination, rest): (u8, IpAddr, IpAddr, &[u8]) =
        match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet.first()? & 15) * 4;
                let address = |at| Some(Ipv4Addr::from(*bytes::<4>(packet, at)?).into());
                (*packet.get(9)?, address(12)?, address(16)?, packet.get(header..)?)
            }
            6 => {
                let address = |at| Some(Ipv6Addr::from(*bytes::<16>(packet, at)?).into());
                (*packet.get(6)?, address(8)?, address(24)?, packet.get(40..)?)
            }
            _ => return None,
        };
    let number = |at| Some(u16::from_be_bytes(*bytes::<2>(rest, at)?));
    let (from, to) = match protocol {
        6 | 17 | 132 => (number(0)?, number(2)?),
        1 | 58 => (0, number(0)?),
        _ => (0, 0),
    };
    Some(Sighting {
        outgoing,
        protocol,
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

fn bytes<const N: usize>(packet: &[u8], at: usize) -> Option<&[u8; N]> {
    packet.get(at..)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x1f, 0x90, 0, 80]);
        let seen = read(&packet, true).unwrap();
        assert_eq!((seen.protocol, seen.outgoing), (6, true));
        assert_eq!(seen.source, "10.0.0.1:8080".parse().unwrap());
        assert_eq!(seen.destination, "10.0.0.2:80".parse().unwrap());

        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfe; 16]);
        packet.extend([1, 4]);
        let seen = read(&packet, false).unwrap();
        assert_eq!((seen.protocol, seen.destination.port()), (58, 0x0104));
        assert_eq!(read(&packet[..30], false), None);
        assert_eq!(read(&[], false), None);
    }
}
