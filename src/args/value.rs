//! Values of flags that clap does not parse by itself.

use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use shunt_core::{engine::NodePortAddresses, model::Family};

/// A duration as Go prints it: `30s`, `1m30s`, `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    // jiff reads ISO 8601 and words too; kube-proxy does not.
    let is_go = !text.contains(|c: char| c.is_whitespace() || c.is_ascii_uppercase());
    let parsed: Option<SignedDuration> = match text {
        "0" => Some(SignedDuration::ZERO),
        text if is_go => text.parse().ok(),
        _ => None,
    };
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("{text:?} is not a duration like 500ms, 30s or 1m30s"))
}

/// `primary`, or CIDRs separated by commas.
pub(super) fn node_port_addresses(text: &str) -> Result<NodePortAddresses, String> {
    if text == "primary" {
        return Ok(NodePortAddresses::Primary);
    }
    let cidrs: Result<Vec<IpNet>, String> =
        text.split(',').filter(|part| !part.is_empty()).map(|part| cidr(part.trim())).collect();
    // An empty list is what kube-proxy makes of "": every local address of both families.
    Ok(NodePortAddresses::Cidrs(cidrs?))
}

/// CIDRs of which each says something of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cidrs(pub(crate) Vec<IpNet>);

impl Cidrs {
    /// Two of which one lies in the other, the wide one first.
    pub(super) fn overlap(&self) -> Option<(IpNet, IpNet)> {
        let pairs = self.0.iter().enumerate().flat_map(|(place, one)| {
            let others = self.0.iter().enumerate().filter(move |(other, _)| *other != place);
            others.map(move |(_, other)| (*one, *other))
        });
        pairs.into_iter().find(|(wide, narrow)| wide.contains(narrow))
    }

    /// The family of which none is, where there is one of the other.
    pub(super) fn missing_family(&self) -> Option<Family> {
        let has = |family| self.0.iter().any(|cidr| Family::of(cidr.addr()) == family);
        Family::ALL.into_iter().find(|family| !self.0.is_empty() && !has(*family))
    }
}

/// CIDRs separated by commas; nothing is none, as for kube-proxy.
pub(super) fn cidrs(text: &str) -> Result<Cidrs, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let cidrs = parts.map(|part| match part.parse::<IpNet>() {
        Ok(cidr) => Ok(cidr.trunc()),
        Err(_) => Err(format!("{part:?} is not a CIDR like 10.244.0.0/16")),
    });
    Ok(Cidrs(cidrs.collect::<Result<_, _>>()?))
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("{text:?} is neither `primary` nor a CIDR like 10.0.0.0/8");
    text.parse().ok().ok_or_else(wrong)
}

/// `TABLE=N`.
pub(super) fn table_size(text: &str) -> Result<(String, u32), String> {
    let wrong = || format!("{text:?} is not TABLE=N, for example endpoints=500000");
    let (table, size) = text.split_once('=').ok_or_else(wrong)?;
    match size.parse() {
        Ok(size) if size > 0 => Ok((table.to_owned(), size)),
        _ => Err(wrong()),
    }
}
