//! The ways in which a program can dial one address.

use std::{fmt, net::SocketAddr};

use shunt_core::model::{Family, Protocol};

use super::expect::transport;
use crate::probe::{How, Socket};

/// A protocol, a family of Services, and whether an IPv4 address is dialled as a v4-mapped one on
/// an AF_INET6 socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The protocol.
    pub protocol: Protocol,
    /// The family of the Service.
    pub family: Family,
    /// Whether the socket is an AF_INET6 one although the family is IPv4.
    pub mapped: bool,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self { protocol: Protocol::Tcp, family: Family::V4, mapped: false },
        Self { protocol: Protocol::Tcp, family: Family::V6, mapped: false },
        Self { protocol: Protocol::Tcp, family: Family::V4, mapped: true },
        Self { protocol: Protocol::Udp, family: Family::V4, mapped: false },
        Self { protocol: Protocol::Udp, family: Family::V6, mapped: false },
        Self { protocol: Protocol::Udp, family: Family::V4, mapped: true },
    ];

    /// The socket to dial with.
    #[must_use]
    pub const fn socket(self) -> Socket {
        let inet6 = self.mapped || matches!(self.family, Family::V6);
        Socket { inet6, transport: transport(self.protocol) }
    }

    /// `address` as this dialect writes it.
    #[must_use]
    pub const fn address(self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.mapped => {
                SocketAddr::new(std::net::IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
            }
            _ => address,
        }
    }

    /// The calls that reach a server.
    #[must_use]
    pub fn hows(self) -> Vec<How> {
        match self.protocol {
            Protocol::Udp => vec![How::Connect, How::NonBlocking, How::SendTo],
            _ => vec![How::Connect, How::NonBlocking, How::FastOpen],
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mapped = if self.mapped { " (v4-mapped)" } else { "" };
        write!(f, "{} {}{mapped}", self.protocol, self.family)
    }
}
