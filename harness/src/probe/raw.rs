//! Packets that no ordinary socket sends: SCTP where the kernel has none, and pings.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::Failure;
use crate::wait::patience;

/// The protocol's number.
const SCTP: i32 = 132;

/// How long a ping may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends the packet that opens an SCTP association: an INIT chunk.
pub(super) fn send_sctp_init(from: u16, to: SocketAddr) -> Result<(), Failure> {
    let send = || {
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(SCTP.into()))?;
        // A raw socket takes no port.
        let address = SocketAddr::new(to.ip(), 0);
        socket.send_to(&sctp_init(from, to.port()), &address.into()).map(drop)
    };
    // What is dropped on its way out is sent all the same, as seen by a client.
    match send() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(|error| Failure::of("sendto", &error)),
    }
}

/// The common header and an INIT chunk without parameters.
fn sctp_init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = Vec::with_capacity(32);
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    // The verification tag of an INIT is 0; the place of the checksum is 0 while it is computed.
    packet.extend([0; 8]);
    let (kind, flags, length) = (1, 0, 20_u16);
    packet.extend([kind, flags]);
    packet.extend(length.to_be_bytes());
    // Initiate tag, window, streams out and in, initial sequence number.
    packet.extend(u32::from(from).to_be_bytes());
    packet.extend(65_535_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1_u32.to_be_bytes());
    let checksum = crc32c(&packet).to_le_bytes();
    packet.splice(8..12, checksum);
    packet
}

/// The checksum of SCTP.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// Sends an ICMP echo request and waits for the answer to it.
pub(super) fn ping(to: IpAddr) -> Result<(), Failure> {
    let (protocol, request, reply) = match to {
        IpAddr::V4(_) => (Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Protocol::ICMPV6, 128, 129),
    };
    let address = SocketAddr::new(to, 0);
    let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(protocol))
        .map_err(|error| Failure::of("socket", &error))?;
    let begin = || {
        socket.set_read_timeout(Some(patience(PATIENCE)))?;
        // A connected one is told errors.
        socket.connect(&address.into())
    };
    begin().map_err(|error| Failure::of("connect", &error))?;
    let mut message = [request, 0, 0, 0, 0x5e, 0x1f, 0, 1];
    let checksum = internet_checksum(&message).to_be_bytes();
    // The kernel does this itself for ICMPv6.
    message[2..4].copy_from_slice(&checksum);
    match socket.send(&message) {
        // Refused on its way out: the message about it waits at the socket.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => drop(other.map_err(|error| Failure::of("send", &error))?),
    }
    // Of IPv4 the header comes first. A socket may hear its own question, or other messages.
    let header = if to.is_ipv4() { 20 } else { 0 };
    let mut answer = [0; 256];
    loop {
        let length = (&socket).read(&mut answer).map_err(|error| Failure::of("recv", &error))?;
        let kind = answer.get(..length).and_then(|answer| answer.get(header));
        if kind == Some(&reply) {
            return Ok(());
        }
    }
}

/// The ones' complement of the ones' complement sum.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([high, low]))
    });
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) as u16 + (folded >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_books() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(internet_checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), 0x220d);
    }

    #[test]
    fn an_init_is_well_formed() {
        let mut packet = sctp_init(4321, 80);
        assert_eq!(packet.len(), 12 + 20);
        assert_eq!(packet[..4], [0x10, 0xe1, 0, 80]);
        let checksum: Vec<u8> = packet.splice(8..12, [0; 4]).collect();
        assert_eq!(checksum, crc32c(&packet).to_le_bytes());
    }
}
