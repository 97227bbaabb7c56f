//! Port numbers and protocols.

use std::{fmt, num::NonZeroU16};

use serde::{Deserialize, Deserializer, de};
use shunt_core::model;

use super::error::Fault;

/// A port number in a field that must hold one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port(pub(super) NonZeroU16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_i64(NumberVisitor("a port"))?;
        let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
        port.map(Self).ok_or_else(|| de::Error::custom(Fault::NotAPort(number)))
    }
}

/// A port number where 0 means none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OptionalPort(pub(super) Option<NonZeroU16>);

impl<'de> Deserialize<'de> for OptionalPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_i64(NumberVisitor("a port"))?;
        let port = u16::try_from(number).ok().map(NonZeroU16::new);
        port.map(Self).ok_or_else(|| de::Error::custom(Fault::NotANodePort(number)))
    }
}

/// The time-out of session affinity, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct AffinitySeconds(pub(super) u32);

impl<'de> Deserialize<'de> for AffinitySeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_i64(NumberVisitor("a number of seconds"))?;
        let seconds = u32::try_from(number).ok().filter(|seconds| (1..=86_400).contains(seconds));
        seconds.map(Self).ok_or_else(|| de::Error::custom(Fault::NotATimeout(number)))
    }
}

/// `protocol`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}

impl From<Protocol> for model::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

/// Takes any whole number, so that the message about one out of range can name it.
struct NumberVisitor(&'static str);

impl de::Visitor<'_> for NumberVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
        Ok(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
