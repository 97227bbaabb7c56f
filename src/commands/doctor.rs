//! `shunt doctor`: what this machine can do, found out by trying.

use std::fmt::Write as _;

use anyhow::Result;
use shunt_backends::nftables;
use shunt_core::backend::{BackendError, Capabilities, Facility, Probe};

use super::backends;
use crate::{args::Place, output::print};

/// Probes and prints. Returns whether connect-time balancing can work here: without it Services
/// may be served all the same, but not in the way for which one installs Shunt.
pub(crate) async fn run(place: &Place) -> Result<bool> {
    let mut probes = Vec::new();
    for (name, backend) in backends(place)? {
        probes.push((name, backend.probe().await));
    }
    print(&report(&probes))?;
    print(&beside(nftables::kube_proxy().await))?;
    Ok(works(&probes, "connect"))
}

fn works(probes: &[(&str, Probe)], wanted: &str) -> bool {
    probes.iter().any(|(name, probe)| *name == wanted && probe.capabilities.is_some())
}

/// The facilities of each dataplane, then what that means.
fn report(probes: &[(&str, Probe)]) -> String {
    let mut text = String::new();
    let facilities = probes.iter().flat_map(|(_, probe)| &probe.facilities);
    let width = facilities.map(|facility| facility.name.len()).max().unwrap_or(0);
    for (name, probe) in probes {
        // A String takes whatever is written to it.
        let _ = writeln!(text, "{}:", title(name));
        for facility in &probe.facilities {
            text += &facility_lines(facility, width);
        }
        text += "\n";
    }
    for (name, probe) in probes {
        text += &match &probe.capabilities {
            Some(capabilities) => verdict(title(name), capabilities),
            None => {
                let missing: Vec<_> = probe.missing().map(|facility| facility.name).collect();
                format!("{} cannot work here: {} missing.\n", title(name), missing.join(", "))
            }
        };
    }
    text + conclusion(works(probes, "connect"), works(probes, "nftables"))
}

/// What another proxy has here: both would answer, and one of them with the endpoints of the past.
fn beside(found: Result<Vec<String>, BackendError>) -> String {
    match found {
        Ok(found) if found.is_empty() => "Nothing of another proxy is beside it.\n".to_owned(),
        Ok(found) => {
            let lines: Vec<String> = found.iter().map(|line| format!("  {line}\n")).collect();
            format!(
                "Another proxy is, or has been, here: what it does with a packet before Shunt, \
                 holds. Its own `--cleanup` removes:\n{}",
                lines.concat()
            )
        }
        Err(error) => format!("Whether another proxy is here cannot be told: {error}.\n"),
    }
}

/// What a dataplane is called in a sentence.
fn title(name: &str) -> &str {
    match name {
        "connect" => "Connect-time balancing",
        "nftables" => "The packet path",
        name => name,
    }
}

/// What mode auto makes of it.
const fn conclusion(connect: bool, nftables: bool) -> &'static str {
    match (connect, nftables) {
        (true, true) => "Mode auto runs both: what one loses or leaves, the other serves.\n",
        (true, false) => {
            "Mode auto runs connect-time balancing alone: traffic without a socket on this node \
             is left to whatever else serves Services here.\n"
        }
        (false, true) => "Mode auto serves everything by the packet path.\n",
        (false, false) => "Nothing of Shunt can work here.\n",
    }
}

fn facility_lines(facility: &Facility, width: usize) -> String {
    let answer = if facility.present { "yes" } else { "no" };
    let mut text = format!("{answer:<3}  {:<width$}  {}\n", facility.name, facility.how);
    if !facility.present {
        let need = if facility.required { "required" } else { "without it" };
        // A String takes whatever is written to it.
        let _ = writeln!(text, "{:5}{:width$}  {need}: {}", "", "", facility.lost);
    }
    text
}

fn verdict(title: &str, capabilities: &Capabilities) -> String {
    let families: Vec<_> = capabilities.families.iter().map(ToString::to_string).collect();
    let protocols: Vec<_> = capabilities.protocols.iter().map(ToString::to_string).collect();
    format!(
        "{title} works here, for {} over {}.\n",
        protocols.join(" and "),
        families.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use shunt_core::model::{Family, Protocol};

    use super::*;

    fn facility(name: &'static str, present: bool, required: bool) -> Facility {
        Facility { name, present, required, how: format!("tried {name}"), lost: "something" }
    }

    #[test]
    fn every_facility_is_told_and_what_is_lost_without_it() {
        let mut probe = Probe::default();
        probe.facilities =
            vec![facility("connect4", true, true), facility("ringbuf", false, false)];
        let mut capabilities = Capabilities::default();
        capabilities.families.extend(Family::ALL);
        capabilities.protocols.extend([Protocol::Tcp, Protocol::Udp]);
        probe.capabilities = Some(capabilities);
        let mut packets = Probe::default();
        packets.facilities = vec![facility("nat", false, true)];
        assert_eq!(
            report(&[("connect", probe), ("nftables", packets)]),
            "\
Connect-time balancing:
yes  connect4  tried connect4
no   ringbuf   tried ringbuf
               without it: something

The packet path:
no   nat       tried nat
               required: something

Connect-time balancing works here, for TCP and UDP over IPv4 and IPv6.
The packet path cannot work here: nat missing.
Mode auto runs connect-time balancing alone: traffic without a socket on this node is left to \
whatever else serves Services here.
"
        );
    }

    #[test]
    fn another_proxy_is_told_and_its_absence_too() {
        assert!(beside(Ok(Vec::new())).starts_with("Nothing of another proxy"));
        let told = beside(Ok(vec!["table ip kube-proxy".to_owned()]));
        assert!(told.ends_with("removes:\n  table ip kube-proxy\n"), "{told}");
        let unknown = beside(Err(BackendError::new("list tables", "no privilege")));
        assert!(unknown.contains("cannot be told: list tables"), "{unknown}");
    }

    #[test]
    fn what_is_required_and_absent_is_named_at_the_end() {
        let mut probe = Probe::default();
        probe.facilities = vec![facility("cgroup2", false, true)];
        let probes = [("connect", probe)];
        assert!(!works(&probes, "connect"));
        let report = report(&probes);
        assert!(report.contains("required: something"), "{report}");
        assert!(report.contains("cannot work here: cgroup2 missing.\n"), "{report}");
        assert!(report.ends_with("Nothing of Shunt can work here.\n"), "{report}");
    }
}
