//! Values of flags that clap does not parse by itself.

use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use shunt_core::engine::NodePortAddresses;

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
