//! What can be wrong with an object, and how it is said: kind, name, field, fault.

use shunt_core::source::ObjectId;

/// An object could not be taken. Not retryable: the object has to change.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A field does not have the value that it must have.
    #[error("{object}: {path}: {reason}")]
    Field {
        /// Kind and name: `Service default/web`.
        object: String,
        /// The field: `spec.ports[0].port`.
        path: String,
        /// What is wrong there.
        reason: String,
    },
    /// The object does not say what it is.
    #[error("{object}: {field}: missing or empty")]
    Untyped {
        /// Its name, if it has one.
        object: String,
        /// `kind` or `apiVersion`.
        field: &'static str,
    },
}

/// A part of an object was left out; the rest of it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {path}: {fault}")]
pub struct ObjectWarning {
    /// The object.
    pub object: ObjectId,
    /// The field.
    pub path: String,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with the value of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A port number out of range.
    #[error("{0} is not a port (1 to 65535)")]
    NotAPort(i64),
    /// A node port out of range.
    #[error("{0} is not a port (1 to 65535, or 0 for none)")]
    NotANodePort(i64),
    /// Text that is no IP address.
    #[error("{0:?} is not an IP address")]
    NotAnAddress(String),
    /// Text that is no range of addresses.
    #[error("{0:?} is not a range of IP addresses such as 10.0.0.0/8")]
    NotARange(String),
    /// An address that does not belong into this slice.
    #[error("{address} is not an {family} address, which the slice is of: the endpoint is ignored")]
    WrongFamily {
        /// The address.
        address: std::net::IpAddr,
        /// The slice's family.
        family: shunt_core::model::Family,
    },
    /// An endpoint that cannot be reached.
    #[error("an endpoint without an address is ignored")]
    NoAddress,
    /// A name that is no DNS label.
    #[error(
        "{0:?} is not a DNS label (at most 63 of a-z, 0-9 and '-', the first and last not '-')"
    )]
    NotALabel(String),
    /// A name that is no DNS subdomain.
    #[error(
        "{0:?} is not a DNS subdomain (at most 253 of a-z, 0-9, '-' and '.', \
         each part begins and ends with a letter or digit)"
    )]
    NotASubdomain(String),
    /// Text that is no moment.
    #[error("{0:?} is not a time such as 2026-01-31T12:00:00Z")]
    NotATime(String),
    /// An affinity time-out out of range.
    #[error("{0} is not a time-out in seconds (1 to 86400)")]
    NotATimeout(i64),
    /// A required field is absent or empty.
    #[error("missing or empty")]
    Missing,
    /// Two ports that cannot be told apart.
    #[error("{protocol} port {name:?} is there twice")]
    PortTwice {
        /// The port's name.
        name: String,
        /// Its protocol.
        protocol: shunt_core::model::Protocol,
    },
}

/// A fault and the field that it is in; the object is added by who knows its name.
#[derive(Debug)]
pub(super) struct FieldError {
    pub(super) path: String,
    pub(super) fault: Fault,
}

impl FieldError {
    pub(super) fn new(path: impl Into<String>, fault: Fault) -> Self {
        Self { path: path.into(), fault }
    }
}
