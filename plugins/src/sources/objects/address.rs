//! IP addresses and ranges, as tolerant as the API server.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::error::Fault;

/// Reads an address as the API server does: with leading zeros, which are decimal
/// (`010.0.0.1` is 10.0.0.1), and a v4-mapped IPv6 address is the IPv4 address in it.
pub(super) fn parse_address(text: &str) -> Result<IpAddr, Fault> {
    let strict = text.parse::<IpAddr>().ok();
    let address = strict.or_else(|| without_leading_zeros(text).parse().ok());
    address
        .map(|address| address.to_canonical())
        .ok_or_else(|| Fault::NotAnAddress(text.to_owned()))
}

/// Reads a range as the API server does: white space around it does not count, nor do bits of the
/// address beyond the prefix.
pub(super) fn parse_range(text: &str) -> Result<IpNet, Fault> {
    let fault = || Fault::NotARange(text.to_owned());
    let (address, length) = text.trim().split_once('/').ok_or_else(fault)?;
    let address = parse_address(address).ok().ok_or_else(fault)?;
    let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = if is_number { length.parse().ok() } else { None };
    let range = length.and_then(|length| IpNet::new(address, length).ok()).ok_or_else(fault)?;
    Ok(range.trunc())
}

/// An address in a field that must hold one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ParseVisitor { what: "an IP address", parse: parse_address };
        deserializer.deserialize_str(visitor).map(Self)
    }
}

/// A range in a field that must hold one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range(pub(super) IpNet);

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ParseVisitor { what: "a range of IP addresses", parse: parse_range };
        deserializer.deserialize_str(visitor).map(Self)
    }
}

/// An address where empty means none, and so does `None`, which a headless Service has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OptionalAddress(pub(super) Option<IpAddr>);

impl<'de> Deserialize<'de> for OptionalAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| match text {
            "" | "None" => Ok(None),
            text => parse_address(text).map(Some),
        };
        deserializer.deserialize_str(ParseVisitor { what: "an IP address", parse }).map(Self)
    }
}

struct ParseVisitor<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, Fault>,
}

impl<T> de::Visitor<'_> for ParseVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// Takes leading zeros from every number of an address, which the standard library rejects: it
/// cannot know whether `010` is ten or, as in C, eight.
fn without_leading_zeros(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(['.', ':']).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let significant = number.trim_start_matches('0');
        result.push_str(if significant.is_empty() && !number.is_empty() {
            "0"
        } else {
            significant
        });
        let mut separators = tail.chars();
        result.extend(separators.next());
        rest = separators.as_str();
    }
    result
}
