//! Numbers and names of ServicePorts.

use shunt_core::{
    backend::LeftReason,
    model::{Family, ObjectName, Protocol},
    plan::ServicePortKey,
};
use shunt_ebpf::tables::ServiceName;

/// The name of a ServicePort as the tables have it, or `None` if it does not fit: Kubernetes
/// allows 63 bytes for each part.
pub(in super::super) fn encode_name(key: &ServicePortKey, left: u8) -> Option<ServiceName> {
    Some(ServiceName {
        namespace: pad(&key.service.namespace)?,
        protocol: key.protocol.number(),
        name: pad(&key.service.name)?,
        family: match key.family {
            Family::V4 => 4,
            Family::V6 => 6,
        },
        port: pad(&key.port)?,
        left,
    })
}

/// The way back, or `None` where no version of Shunt wrote this.
pub(in super::super) fn decode_name(name: &ServiceName) -> Option<ServicePortKey> {
    let namespace = unpad(&name.namespace)?;
    let service = unpad(&name.name)?;
    if namespace.is_empty() || service.is_empty() {
        return None;
    }
    Some(ServicePortKey {
        service: ObjectName::new(namespace, service),
        port: unpad(&name.port)?.into(),
        protocol: match name.protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            132 => Protocol::Sctp,
            _ => return None,
        },
        family: match name.family {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        },
    })
}

fn pad(text: &str) -> Option<[u8; 63]> {
    let mut padded = [0; 63];
    let (front, _) = padded.split_at_mut_checked(text.len())?;
    front.copy_from_slice(text.as_bytes());
    (!text.contains('\0')).then_some(padded)
}

fn unpad(padded: &[u8; 63]) -> Option<&str> {
    let end = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
    let (text, padding) = padded.split_at_checked(end)?;
    padding.iter().all(|byte| *byte == 0).then_some(())?;
    std::str::from_utf8(text).ok()
}

/// The code of a reason, for people who read the tables without the agent; 0 is "served".
pub(super) const fn left_code(reason: Option<&LeftReason>) -> u8 {
    match reason {
        None => 0,
        Some(LeftReason::Protocol(_)) => 1,
        Some(LeftReason::Family(_)) => 2,
        Some(LeftReason::SourceRanges) => 3,
        Some(LeftReason::NoLocalEndpoint) => 4,
        Some(LeftReason::OnInterface(_)) => 5,
        Some(LeftReason::NoRefusal) => 6,
        Some(LeftReason::Full(_)) => 7,
        Some(_) => u8::MAX,
    }
}

/// What a code says; which protocol, interface or table it was is in the agent's log.
pub(in super::super) const fn left_words(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => return None,
        1 => "its protocol is not taken at connect()",
        2 => "its family is not available here",
        3 => "source ranges need a packet's source address",
        4 => "policy Local without an endpoint on this node",
        5 => "an interface of this node carries the ClusterIP",
        6 => "this kernel cannot refuse a connect()",
        7 => "a table is full",
        _ => "this version does not know the reason",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(namespace: &str, name: &str, port: &str, fits: bool) {
        let key = ServicePortKey {
            service: ObjectName::new(namespace, name),
            port: port.into(),
            protocol: Protocol::Udp,
            family: Family::V6,
        };
        let encoded = encode_name(&key, 3);
        assert_eq!(encoded.is_some(), fits, "{key}");
        if let Some(encoded) = encoded {
            assert_eq!(decode_name(&encoded), Some(key));
            assert_eq!(encoded.left, 3);
        }
    }

    #[test]
    fn names_come_back() {
        check("default", "web", "", true);
        check("n", &"x".repeat(63), "http", true);
        check("n", "größe/Ω \"'", "p", true);
        check("n", &"x".repeat(64), "http", false);
        check("n", "a\0b", "http", false);
    }

    #[test]
    fn what_nobody_wrote_is_not_a_name() {
        let zero = ServiceName {
            namespace: [0; 63],
            protocol: 6,
            name: [0; 63],
            family: 4,
            port: [0; 63],
            left: 0,
        };
        assert_eq!(decode_name(&zero), None);
        let mut odd = zero;
        odd.namespace[0] = b'n';
        odd.name[0] = b's';
        assert!(decode_name(&odd).is_some());
        odd.name[5] = b'x';
        assert_eq!(decode_name(&odd), None, "text behind the padding");
        assert_eq!(decode_name(&ServiceName { protocol: 1, name: zero.name, ..odd }), None);
    }
}
