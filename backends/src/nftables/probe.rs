//! What the kernel can do, found out by trying.

use std::collections::BTreeSet;

use shunt_core::{
    backend::{BackendError, Capabilities, Facility, Feature, Probe},
    model::{Family, Protocol},
};

use super::{
    grace,
    netlink::{Batch, Kernel as _, KernelError, Netlink, Structure},
    options::NftablesOptions,
    ruleset::{Chain, Hook, List, Place, SetName, Shape, rules},
};

/// Tries everything in tables of a name of their own, which are gone afterwards.
pub(super) async fn probe(options: &NftablesOptions) -> Probe {
    let mut probe = Probe::default();
    let trial = NftablesOptions { table: format!("{}-probe", options.table), ..options.clone() };
    let kernel = Netlink::open(&trial);
    probe.facilities.push(Facility {
        name: "nftables",
        present: kernel.is_ok(),
        required: true,
        how: match &kernel {
            Ok(_) => "socket(NETLINK_NETFILTER): made".to_owned(),
            Err(error) => format!("socket(NETLINK_NETFILTER): {error}"),
        },
        lost: "there is no packet path",
    });
    let Ok(kernel) = kernel else { return probe };
    let mut families = BTreeSet::new();
    let mut is_denied = false;
    for family in Family::ALL {
        let tried = try_family(&kernel, family).await;
        if tried.is_ok() {
            families.insert(family);
        }
        is_denied |= tried.as_ref().is_err_and(KernelError::is_denied);
        probe.facilities.push(family_facility(family, &tried));
    }
    probe.facilities.push(privilege(is_denied));
    probe.facilities.push(Facility {
        name: "membarrier",
        present: grace::can_wait(),
        required: false,
        how: "membarrier(QUERY)".to_owned(),
        lost: "what Services leave behind in the tables stays there until a restart",
    });
    probe.facilities.push(set_lookup());
    if !families.is_empty() {
        let mut capabilities = Capabilities::default();
        capabilities.families = families;
        capabilities.protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into();
        capabilities.features = [
            Feature::NodePort,
            Feature::ExternalAddresses,
            Feature::SourceRanges,
            Feature::Affinity,
            Feature::Refusal,
            Feature::Drop,
            Feature::PeerName,
            Feature::Forwarded,
        ]
        .into();
        probe.capabilities = Some(capabilities);
    }
    probe
}

/// The families that can be served here.
///
/// # Errors
///
/// Fails if there is none.
pub(super) async fn families(options: &NftablesOptions) -> Result<Vec<Family>, BackendError> {
    let probe = probe(options).await;
    match probe.capabilities {
        Some(capabilities) => Ok(capabilities.families.into_iter().collect()),
        None => {
            let how = probe.facilities.iter().filter(|facility| !facility.present);
            let how: Vec<&str> = how.map(|facility| facility.how.as_str()).collect();
            Err(BackendError::new("start the packet path", how.join("; ")))
        }
    }
}

/// Makes a table with everything that we use, and deletes it.
async fn try_family(kernel: &Netlink, family: Family) -> Result<(), KernelError> {
    // What a probe left that was killed.
    let _ = kernel.delete_table(family).await;
    let result = kernel.commit(family, &whole(family)).await;
    if result.is_ok() {
        kernel.delete_table(family).await?;
    }
    result
}

/// A table with everything that we use. Its base chains hold no rules: nothing may happen to a
/// packet that passes meanwhile.
fn whole(family: Family) -> Batch {
    let shape = Shape { family, masquerade_all: true, mark: 1, local_pod: None };
    let inner = || Chain::CONSTANT.into_iter().chain(counted());
    let mut before = vec![Structure::AddTable];
    before.extend(SetName::ALL.map(Structure::AddSet));
    before.extend(inner().map(Structure::AddChain));
    before.extend(inner().map(|chain| Structure::Rules(chain, rules(&shape, chain))));
    before.extend(inner().map(Structure::AddKind));
    before.extend(Hook::ALL.map(|hook| Structure::AddChain(Chain::Base(hook))));
    Batch { before, ..Batch::default() }
}

fn counted() -> Vec<Chain> {
    let (place, list) = (Place::Address, List::Local);
    vec![
        Chain::Choose { place, list, count: 2 },
        Chain::Sticky { place, list, seconds: 60, count: 2 },
    ]
}

fn family_facility(family: Family, tried: &Result<(), KernelError>) -> Facility {
    let how = match tried {
        Ok(()) => "a table with all our sets, chains and rules: made and deleted".to_owned(),
        Err(error) => {
            let cause = std::error::Error::source(error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("a table with all our sets, chains and rules: {error}{cause}")
        }
    };
    let (name, lost) = match family {
        Family::V4 => ("nftables for IPv4", "IPv4 Services are not served by the packet path"),
        Family::V6 => ("nftables for IPv6", "IPv6 Services are not served by the packet path"),
    };
    Facility { name, present: tried.is_ok(), required: false, how, lost }
}

fn privilege(is_denied: bool) -> Facility {
    let how = match is_denied {
        true => "a table with all our sets, chains and rules: not permitted without CAP_NET_ADMIN",
        false => "a table with all our sets, chains and rules: permitted",
    };
    Facility {
        name: "CAP_NET_ADMIN",
        present: !is_denied,
        required: true,
        how: how.to_owned(),
        lost: "there is no packet path",
    }
}

/// A fault of the kernel cannot be tried without packets: its version tells where it is mended.
fn set_lookup() -> Facility {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = numbers.next().and_then(Result::ok).zip(numbers.next().and_then(Result::ok));
    Facility {
        name: "set lookups during a commit",
        present: version.is_some_and(|version| version >= (6, 18)),
        required: false,
        how: format!("kernel {}; mended in 6.18 and in some before it", release.trim()),
        lost: "while the table changes, a packet can miss a Service that is there (mended by \
               mainline commit b2f742c846ca)",
    }
}
