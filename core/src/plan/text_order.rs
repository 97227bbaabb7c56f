//! The order of endpoints: that of the text "ip:port".
//!
//! The text of an IPv4 address is not written to find its place: an order-preserving number is
//! made of it, which takes nanoseconds where formatting takes a hundred.

use std::net::{SocketAddr, SocketAddrV4};

/// The place of an address in the order of the texts "ip:port", IPv6 as `"[ip]:port"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TextOrder {
    V4(u64),
    V6(Box<str>),
}

impl TextOrder {
    pub(super) fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(v4(address)),
            SocketAddr::V6(address) => Self::V6(address.to_string().into()),
        }
    }
}

/// Four octets of 11 bits and a port of 18 bits, the first octet highest.
fn v4(address: SocketAddrV4) -> u64 {
    let [a, b, c, d] = address.ip().octets();
    let octets = [(a, BEFORE_DIGITS), (b, BEFORE_DIGITS), (c, BEFORE_DIGITS), (d, AFTER_DIGITS)]
        .into_iter()
        .fold(0, |place, (octet, end)| (place << 11) | octet_place(octet, end));
    (octets << 18) | port_place(address.port())
}

/// '.' sorts before the digits and ':' after them, so "1." < "10." but "10:" < "1:".
const BEFORE_DIGITS: u64 = 0;
const AFTER_DIGITS: u64 = 11;

/// The octet's digits and what follows them, as a number of three digits in base 12.
fn octet_place(octet: u8, end: u64) -> u64 {
    let octet = u64::from(octet);
    let digit = |value: u64| value % 10 + 1;
    let (first, second, third) = match octet {
        0..10 => (digit(octet), end, 0),
        10..100 => (digit(octet / 10), digit(octet), end),
        _ => (digit(octet / 100), digit(octet / 10), digit(octet)),
    };
    (first * 12 + second) * 12 + third
}

/// The port's digits from the left, as a number of five digits in base 11; the end of the text
/// sorts before every digit.
fn port_place(port: u16) -> u64 {
    let mut place = 0;
    let mut rest = u64::from(port);
    let mut power = 1;
    let mut digits = 1;
    while power * 10 <= rest {
        power *= 10;
        digits += 1;
    }
    for _ in 0..digits {
        place = place * 11 + rest / power + 1;
        rest %= power;
        power = (power / 10).max(1);
    }
    place * 11_u64.pow(5 - digits)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn check(one: SocketAddr, other: SocketAddr) {
        assert_eq!(
            TextOrder::of(one).cmp(&TextOrder::of(other)),
            one.to_string().cmp(&other.to_string()),
            "{one} and {other}"
        );
    }

    #[test]
    fn the_ends_of_numbers_are_in_their_places() {
        let texts = [
            "1.1.1.1:1",
            "1.1.1.1:10",
            "1.1.1.1:2",
            "1.1.1.10:1",
            "1.1.1.100:1",
            "1.1.1.19:1",
            "1.1.10.1:1",
            "10.1.1.1:1",
            "100.1.1.1:1",
            "2.1.1.1:65535",
            "2.1.1.1:6553",
            "0.0.0.0:0",
            "255.255.255.255:65535",
            "[::1]:80",
            "[::]:80",
            "[fd00::1]:80",
        ];
        let addresses: Vec<SocketAddr> =
            texts.iter().map(|text| text.parse().expect("an address")).collect();
        for one in &addresses {
            for other in addresses.iter().filter(|other| other.is_ipv4() == one.is_ipv4()) {
                check(*one, *other);
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_the_order_of_the_texts(
            one: (u32, u16), other: (u32, u16), same in 0..=32_u32, v6: (u128, u128),
        ) {
            // Addresses that agree in their first bits meet the interesting cases.
            let mask = u32::MAX.checked_shl(32 - same).unwrap_or(0);
            let near = (one.0 & mask) | (other.0 & !mask);
            let address = |bits, port| SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), port);
            check(address(one.0, one.1), address(near, other.1));
            let address = |bits, port| SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), port);
            check(address(v6.0, one.1), address(v6.1, other.1));
        }
    }
}
