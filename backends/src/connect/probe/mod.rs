//! What the kernel here can do, found out by trying and without a trace.

mod code;
mod facility;

use shunt_core::{
    backend::{Capabilities, Facility, Feature, Probe},
    model::{Family, Protocol},
};

use super::{
    ConnectOptions,
    hook::{HOOKS, SOCK_RELEASE},
    program::{Extras, Loaded},
};

/// Tries everything that spec and programs ask for. Where the programs can be loaded, they are there
/// to be used: the verifier takes a tenth of a second for them.
pub(super) fn probe(options: &ConnectOptions) -> (Probe, Option<Loaded>) {
    let mut facilities = facility::capabilities();
    facilities.push(facility::cgroup2(options.cgroup.as_deref()));
    facilities.push(facility::bpffs(&options.pin_path));
    facilities.extend(HOOKS.map(|hook| match hook {
        SOCK_RELEASE => facility::sock_release(),
        hook => facility::hook(hook),
    }));
    facilities.extend([
        facility::links(),
        facility::link_update(),
        facility::sk_storage(),
        facility::netns_cookie(),
        facility::mmapable_arrays(),
        facility::batches(),
        facility::ring_buffer(),
        facility::grace_periods(),
        facility::set_retval(),
        facility::socket_cookie(),
    ]);
    let (programs, loaded) = facility::programs(options, extras());
    facilities.push(programs);
    let mut probe = Probe::default();
    if facilities.iter().all(|facility| facility.present || !facility.required) {
        probe.capabilities = Some(capabilities(&facilities));
    }
    probe.facilities = facilities;
    (probe, loaded)
}

/// The required capabilities that this thread lacks.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    let missing = facility::capabilities().into_iter().filter(|facility| !facility.present);
    missing.map(|facility| facility.name).collect()
}

/// What of the kernel's that is not everywhere is here.
pub(super) fn extras() -> Extras {
    Extras {
        set_retval: facility::set_retval().present,
        sock_release: facility::sock_release().present,
    }
}

fn capabilities(facilities: &[Facility]) -> Capabilities {
    let has = |name: &str| facilities.iter().any(|found| found.name == name && found.present);
    let mut features =
        vec![Feature::NodePort, Feature::ExternalAddresses, Feature::Affinity, Feature::PeerName];
    if has(facility::SET_RETVAL) {
        features.push(Feature::Refusal);
    }
    if has(facility::SOCKET_COOKIE) {
        features.push(Feature::LoopbackNodePort);
    }
    let mut capabilities = Capabilities::default();
    capabilities.families = Family::ALL.into();
    capabilities.protocols = [Protocol::Tcp, Protocol::Udp].into();
    capabilities.features = features.into_iter().collect();
    capabilities
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without privileges everything is refused, and each refusal is a line and not an error.
    #[test]
    fn every_facility_says_how_it_was_tried() {
        let (probe, loaded) = probe(&ConnectOptions::default());
        assert!(probe.facilities.len() > 20);
        for facility in &probe.facilities {
            assert!(!facility.how.is_empty() && !facility.lost.is_empty(), "{}", facility.name);
        }
        let works = probe.missing().count() == 0;
        assert_eq!(probe.capabilities.is_some(), works);
        assert!(loaded.is_some() || !works);
    }
}
