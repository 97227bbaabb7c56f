//! `shunt doctor`: what this machine can do, found out by trying.

use std::fmt::Write as _;

use anyhow::Result;
use shunt_core::backend::{Capabilities, Facility, Probe};

use super::connect;
use crate::{args::Place, output::print};

/// Probes and prints. Returns whether connect-time balancing can work here.
pub(crate) async fn run(place: &Place) -> Result<bool> {
    let probe = connect(place)?.probe().await;
    print(&report(&probe))?;
    Ok(probe.capabilities.is_some())
}

fn report(probe: &Probe) -> String {
    let mut text = String::new();
    let width = probe.facilities.iter().map(|facility| facility.name.len()).max().unwrap_or(0);
    for facility in &probe.facilities {
        text += &facility_lines(facility, width);
    }
    text += "\n";
    text += &match &probe.capabilities {
        Some(capabilities) => verdict(capabilities),
        None => {
            let missing: Vec<_> = probe.missing().map(|facility| facility.name).collect();
            format!("Connect-time balancing cannot work here: {} missing.\n", missing.join(", "))
        }
    };
    text
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

fn verdict(capabilities: &Capabilities) -> String {
    let families: Vec<_> = capabilities.families.iter().map(ToString::to_string).collect();
    let protocols: Vec<_> = capabilities.protocols.iter().map(ToString::to_string).collect();
    format!(
        "Connect-time balancing works here, for {} over {}.\n",
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
        assert_eq!(
            report(&probe),
            "\
yes  connect4  tried connect4
no   ringbuf   tried ringbuf
               without it: something

Connect-time balancing works here, for TCP and UDP over IPv4 and IPv6.
"
        );
    }

    #[test]
    fn what_is_required_and_absent_is_named_at_the_end() {
        let mut probe = Probe::default();
        probe.facilities = vec![facility("cgroup2", false, true)];
        let report = report(&probe);
        assert!(report.contains("required: something"), "{report}");
        assert!(report.ends_with("cannot work here: cgroup2 missing.\n"), "{report}");
    }
}
