//! Names, by the rules of the API server.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, de};

use super::error::Fault;

/// A DNS label (RFC 1123): the name of a namespace or of a port.
#[derive(Clone, Debug)]
pub(super) struct Label(pub(super) Arc<str>);

impl Label {
    pub(super) fn check(text: &str) -> Result<(), Fault> {
        if text.len() <= 63 && is_dns_part(text) {
            return Ok(());
        }
        Err(Fault::NotALabel(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(NameVisitor { what: "a DNS label", check: Self::check })
            .map(Self)
    }
}

/// A DNS subdomain (RFC 1123): the name of most objects.
#[derive(Clone, Debug)]
pub(super) struct Subdomain(pub(super) Arc<str>);

impl Subdomain {
    fn check(text: &str) -> Result<(), Fault> {
        if text.len() <= 253 && text.split('.').all(is_dns_part) {
            return Ok(());
        }
        Err(Fault::NotASubdomain(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Subdomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = NameVisitor { what: "a DNS subdomain", check: Self::check };
        deserializer.deserialize_str(visitor).map(Self)
    }
}

/// The name of a port: a label, or empty, which is a name too.
#[derive(Clone, Debug)]
pub(super) struct PortName(pub(super) Arc<str>);

impl Default for PortName {
    fn default() -> Self {
        Self("".into())
    }
}

impl<'de> Deserialize<'de> for PortName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let check = |text: &str| if text.is_empty() { Ok(()) } else { Label::check(text) };
        deserializer.deserialize_str(NameVisitor { what: "a port's name", check }).map(Self)
    }
}

struct NameVisitor {
    what: &'static str,
    check: fn(&str) -> Result<(), Fault>,
}

impl de::Visitor<'_> for NameVisitor {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Arc<str>, E> {
        (self.check)(text).map_err(E::custom)?;
        Ok(text.into())
    }
}

fn is_dns_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}
