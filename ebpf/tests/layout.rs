//! The layouts are a contract with the kernel and with other versions of Shunt.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_ebpf::{
    address::Address,
    affinity::{Affinity, AffinityKey},
    control::Control,
    event::Event,
    socket::{Connected, Peer, Peers, Seat, Tuple, seat_index},
    tables::{
        Endpoint, Frontend4, Frontend6, FrontendKey4, FrontendKey6, FrontendKind, List, ListWord,
        NODE_PORTS, NodePort, ServiceName, Target, node_port_index, order,
    },
};

/// The kernel compares keys byte by byte, so no type may have padding; and another size is another
/// layout version.
#[test]
fn sizes_are_those_of_layout_version_1() {
    fn check<T>(size: usize) {
        assert_eq!(size_of::<T>(), size, "{}", std::any::type_name::<T>());
    }
    check::<FrontendKey4>(4 + 2 + 1 + 1);
    check::<Frontend4>(8 + 4 + 4);
    check::<FrontendKey6>(16 + 2 + 1 + 1);
    check::<Frontend6>(20 + 4 + 4);
    check::<List>(8 + 8);
    check::<Endpoint>(16 + 2 + 6 + 8);
    check::<NodePort>(4 + 4);
    check::<ServiceName>(63 + 1 + 63 + 1 + 63 + 1);
    check::<AffinityKey>(8 + 4 + 4);
    check::<Affinity>(16 + 16 + 8 + 2 + 2 + 4);
    check::<Control>(8 + 8 + 8 + 40);
    check::<Tuple>(16 + 2 + 6);
    check::<Connected>(24 + 24 + 4 + 4);
    check::<Seat>(4 + 4 + 8 + 56);
    check::<Peer>(16 + 16 + 2 + 2 + 4);
    check::<Peers>(4 + 4 + 16 * 40);
    check::<Event>(8 + 8 + 24 + 24 + 4 + 1 + 1 + 2);
}

fn v4(text: &str) -> Address {
    let address: Ipv4Addr = text.parse().unwrap();
    Address::from_octets(address.to_ipv6_mapped().octets())
}

fn v6(text: &str) -> Address {
    let address: Ipv6Addr = text.parse().unwrap();
    Address::from_octets(address.octets())
}

#[test]
fn an_address_is_the_same_from_every_side() {
    let words = |text: &str| {
        let octets = text.parse::<Ipv6Addr>().unwrap().octets();
        [0, 4, 8, 12].map(|at| u32::from_ne_bytes(octets[at..at + 4].try_into().unwrap()))
    };
    assert_eq!(Address::from_ip4(u32::from_ne_bytes([10, 1, 2, 3])), v4("10.1.2.3"));
    assert_eq!(Address::from_ip6(words("::ffff:10.1.2.3")), v4("10.1.2.3"));
    assert_eq!(v4("10.1.2.3").ip4(), u32::from_ne_bytes([10, 1, 2, 3]));
    for text in ["fd00::1", "2001:db8:1:2:3:4:5:6", "::1", "::"] {
        assert_eq!(Address::from_ip6(words(text)), v6(text), "{text}");
        assert_eq!(v6(text).ip6(), words(text), "{text}");
        assert_eq!(v6(text).octets(), text.parse::<Ipv6Addr>().unwrap().octets());
        assert!(!v6(text).is_ip4(), "{text}");
    }
    assert!(v4("0.0.0.0").is_ip4());
    let loopback = ["127.0.0.1", "127.0.0.2"].map(|text| v4(text).is_loopback());
    assert_eq!(loopback, [true, false]);
    assert!(v6("::1").is_loopback() && !v6("::2").is_loopback());
}

#[test]
fn a_list_word_says_one_thing() {
    for word in [
        ListWord::Left,
        ListWord::Refuse,
        ListWord::Run { base: 0, count: 1 },
        ListWord::Run { base: 524_287, count: 5_000 },
    ] {
        assert_eq!(ListWord::decode(word.encode()), word);
    }
    let list = List { word: 0, owner: List::owner(7, 86_400) };
    assert_eq!((list.service(), list.affinity_seconds()), (7, 86_400));
}

#[test]
fn a_target_keeps_kind_and_list() {
    use FrontendKind::{Canary, ClusterIp, ExternalIp, LoadBalancerIp, NodePort};
    for kind in [ClusterIp, ExternalIp, LoadBalancerIp, NodePort, Canary] {
        for list in [1, 131_071, Target::MAX_LISTS - 1] {
            let target = Target::new(kind, list);
            assert_eq!((target.kind(), target.list()), (Some(kind), list));
        }
    }
    assert_eq!(Target::default().kind(), None);
}

#[test]
fn node_ports_of_families_and_protocols_lie_apart() {
    let mut seen = std::collections::BTreeSet::new();
    for is_ip4 in [true, false] {
        for is_udp in [true, false] {
            for port in [0, 30_000, u16::MAX] {
                let index = node_port_index(is_ip4, is_udp, port);
                assert!(index < NODE_PORTS && seen.insert(index));
            }
        }
    }
}

#[test]
fn cookies_that_follow_each_other_have_seats_of_their_own() {
    for first in [1, 4096, u64::from(u32::MAX) - 7, u64::MAX - 16] {
        let seats: std::collections::BTreeSet<_> =
            (first..first + 16).map(|cookie| seat_index(cookie, 16)).collect();
        assert!(seats.into_iter().eq(0..16), "{first}");
    }
    assert_eq!(seat_index(u64::MAX, 1), 0);
}

#[test]
fn order_tells_ip4_endpoints_apart_and_follows_them() {
    let mut places = Vec::new();
    for address in ["0.0.0.0", "10.0.0.1", "10.0.0.2", "255.255.255.255"] {
        places.extend([0, 1, 80, u16::MAX].map(|port| order(v4(address), port)));
    }
    assert!(places.is_sorted_by(|a, b| a < b));
    assert_ne!(order(v6("fd00::1"), 80), order(v6("fd00::2"), 80));
    assert_ne!(order(v6("fd00::1"), 80), order(v6("fd00::1"), 81));
    assert_ne!(order(v6("fd00:1::1"), 80), order(v6("fd00:2::1"), 80));
}

#[test]
fn a_seal_changes_with_every_field() {
    let key = FrontendKey4 { address: 1, port: 80, protocol: 6, zero: 0 };
    let target = Target::new(FrontendKind::ClusterIp, 1);
    let seals = [
        key.seal(target),
        FrontendKey4 { address: 2, ..key }.seal(target),
        FrontendKey4 { port: 81, ..key }.seal(target),
        FrontendKey4 { protocol: 17, ..key }.seal(target),
        key.seal(Target::new(FrontendKind::ClusterIp, 2)),
        key.seal(Target::new(FrontendKind::ExternalIp, 1)),
        0,
    ];
    let distinct: std::collections::BTreeSet<_> = seals.iter().collect();
    assert_eq!(distinct.len(), seals.len());
}
