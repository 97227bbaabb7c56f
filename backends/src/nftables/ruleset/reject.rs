//! How a family says "port unreachable".

use shunt_core::model::Family;

use super::expressions::RuleBody;

/// `NFT_REJECT_ICMP_UNREACH`.
const ICMP_UNREACHABLE: u32 = 0;
/// `ICMP_PORT_UNREACH`.
const PORT_UNREACHABLE: u8 = 3;
/// `ICMPV6_PORT_UNREACH`.
const PORT_UNREACHABLE_6: u8 = 4;

/// Refuses the packet: its sender sees ECONNREFUSED, whatever the protocol.
pub(super) fn refuse(body: RuleBody, family: Family) -> RuleBody {
    let code = match family {
        Family::V4 => PORT_UNREACHABLE,
        Family::V6 => PORT_UNREACHABLE_6,
    };
    body.reject(ICMP_UNREACHABLE, code)
}
