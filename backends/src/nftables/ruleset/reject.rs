//! How a sender learns that nobody answers.

use shunt_core::model::Family;

use super::expressions::RuleBody;

/// `NFT_REJECT_ICMP_UNREACH`.
const ICMP_UNREACHABLE: u32 = 0;
/// `NFT_REJECT_TCP_RST`.
const TCP_RESET: u32 = 1;
/// `ICMP_PORT_UNREACH`.
const PORT_UNREACHABLE: u8 = 3;
/// `ICMPV6_PORT_UNREACH`.
const PORT_UNREACHABLE_6: u8 = 4;

/// Refuses the packet if it is one of TCP, by a reset. An ICMP message that arrives while `connect`
/// still holds the socket is only noted there, and the caller hears of it with the next SYN, a
/// second later.
pub(super) fn refuse_tcp(body: RuleBody) -> RuleBody {
    body.tcp().reject(TCP_RESET, 0)
}

/// Refuses the packet: its sender sees ECONNREFUSED, whatever the protocol.
pub(super) fn refuse(body: RuleBody, family: Family) -> RuleBody {
    let code = match family {
        Family::V4 => PORT_UNREACHABLE,
        Family::V6 => PORT_UNREACHABLE_6,
    };
    body.reject(ICMP_UNREACHABLE, code)
}
