//! SCTP, of which the kernel may have none: the packet that opens an association is sent, and
//! where it comes out is looked at as a packet.

use std::{net::SocketAddr, time::Instant};

use anyhow::Result;
use shunt_harness::{probe::Sighting, world::Pod};

use crate::{
    generate::{PODS, PORT},
    look::{Outcome, SILENCE},
    twin::{QUIET, Twin, knocks},
};

/// The number of the protocol.
const SCTP: u8 = 132;

/// ICMP and ICMPv6 messages that say "port unreachable", with type and code.
const REFUSALS: [(u8, u16); 2] = [(1, 0x0303), (58, 0x0104)];

/// Sends several INIT chunks to one address, and sees where they arrive and what is refused. A
/// refusal that the node sends to itself does not pass an interface: that is silence.
pub(crate) fn knock(twin: &Twin, pod: &Pod, to: SocketAddr, patience: u32) -> Result<Outcome> {
    let mut taps = Vec::new();
    for (name, _, _) in PODS {
        let endpoint = twin.world.pod(name)?;
        taps.push((endpoint, endpoint.tap()?));
    }
    let is_tapped = taps.iter().any(|(tapped, _)| tapped.name() == pod.name());
    if !is_tapped && pod.name() != twin.world.host().name() {
        taps.push((pod, pod.tap()?));
    }
    let knocks = knocks(patience);
    for _ in 0..knocks {
        pod.send_sctp_init(twin.fresh_port(), to)?;
    }
    let (mut heard, mut outcome) = (0, Outcome::default());
    let start = Instant::now();
    while heard < knocks && start.elapsed() < QUIET * patience {
        for (tapped, tap) in &taps {
            for seen in tap.look()? {
                if let Some(said) = said(twin, tapped, pod, &seen) {
                    outcome.0.insert(said);
                    heard += 1;
                }
            }
        }
    }
    if heard < knocks {
        outcome.0.insert(SILENCE.to_owned());
    }
    Ok(outcome)
}

/// What a packet says that arrived at a pod, if it is about a knock.
fn said(twin: &Twin, at: &Pod, client: &Pod, seen: &Sighting) -> Option<String> {
    if seen.outgoing {
        return None;
    }
    if seen.protocol == SCTP {
        let own = at.addresses();
        let is_own = [own.v4.into(), own.v6.into()].contains(&seen.destination.ip());
        let arrived = is_own && seen.destination.port() == PORT;
        return arrived.then(|| format!("{} sees {}", at.name(), twin.name(seen.source.ip())));
    }
    let is_refusal = REFUSALS.contains(&(seen.protocol, seen.destination.port()));
    (is_refusal && at.name() == client.name()).then(|| "ECONNREFUSED".to_owned())
}
