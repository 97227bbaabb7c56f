//! The tables in words.

use shunt_core::{backend::BackendError, model::Family};

use super::{
    dump::Found,
    netlink::{Kernel as _, Netlink},
    options::NftablesOptions,
    ruleset::{Chain, Hook, List, Place, SetName},
};

/// Says what is in the tables, and what becomes of a packet, a line a thought.
///
/// `nft list table` cannot show all of it: where one map says the key of the next, it shows
/// something else in its place.
///
/// # Errors
///
/// Fails if a table is there and cannot be read.
pub async fn explain(options: &NftablesOptions) -> Result<Vec<String>, BackendError> {
    let kernel = Netlink::open(options)
        .map_err(|cause| BackendError::new("open a netlink socket for nftables", cause))?;
    let mut lines = Vec::new();
    for family in Family::ALL {
        let table = options.table_name(family);
        let found = kernel
            .read(family)
            .await
            .map_err(|cause| BackendError::new(format!("read table {table}"), cause))?;
        match found {
            Some(found) => describe(&mut lines, &table, &found),
            None => lines.push(format!("Table {table} does not exist: {family} is not served.")),
        }
    }
    Ok(lines)
}

fn describe(lines: &mut Vec<String>, table: &str, found: &Found) {
    let rules: usize = found.rules.values().map(Vec::len).sum();
    let (chains, elements) = (found.chains.len(), found.elements.len());
    lines.push(format!("Table {table}: {chains} chains with {rules} rules, {elements} elements."));
    let mut all = found.chains.clone();
    all.sort();
    for chain in all {
        lines.push(format!("  {chain}: {}", words(chain)));
    }
    for set in SetName::ALL {
        let used = match set {
            SetName::Affinity => found.remembered as usize,
            _ => found.elements.keys().filter(|(own, _)| *own == set).count(),
        };
        if used > 0 {
            lines.push(format!("  {} ({used}): {}", set.name(), set.comment()));
        }
    }
    for foreign in &found.foreign {
        lines.push(format!("  {foreign} is not ours."));
    }
    for misshapen in &found.misshapen {
        lines.push(format!("  {misshapen} is not as we make it: the table will be made anew."));
    }
}

fn words(chain: Chain) -> String {
    match chain {
        Chain::Base(hook) => base(hook).to_owned(),
        Chain::Services => "a packet to a ClusterIP is marked for masquerading if it has to be; \
                            then frontends says the kind of its address, protocol and port, or \
                            node-ports that of its protocol and port if it is for an address in \
                            node-addresses; kinds says the chain of that kind. Anything else goes \
                            on untouched."
            .to_owned(),
        Chain::Untranslated => "a frontend in unserved is refused or dropped; another port of a \
                                ClusterIP is refused; an address of service-cidrs that is no \
                                ClusterIP is dropped; anything else goes on."
            .to_owned(),
        Chain::Reject => "the sender gets \"port unreachable\".".to_owned(),
        Chain::RangedReject => {
            "refused if allowed has frontend and source, else dropped.".to_owned()
        }
        Chain::External(place) => {
            format!("masqueraded, and served as cluster-lists says of {}.", key(place))
        }
        Chain::ExternalLocal(place) => format!(
            "from a local pod, as cluster-lists says of {}; from this host the same, masqueraded; \
             from anyone else as local-lists says, source kept, or dropped if it says nothing.",
            key(place)
        ),
        Chain::Ranged => {
            "dropped, unless allowed has frontend and source; then external.".to_owned()
        }
        Chain::RangedLocal => {
            "dropped, unless allowed has frontend and source; then external-local.".to_owned()
        }
        Chain::Choose { place, list, count } => format!(
            "to the endpoint that endpoints has for {} and a random slot of {count}, from the {}.",
            key(place),
            from(list)
        ),
        Chain::Sticky { list, seconds, count, .. } => format!(
            "to the endpoint that affinity has for the ServicePort's number and the client, if it \
             is still in the {}, for {seconds} s more; else to a random one of {count}, which is \
             remembered.",
            from(list)
        ),
    }
}

const fn base(hook: Hook) -> &'static str {
    match hook {
        Hook::NatPrerouting => "what comes in for anybody, first packet of a connection: services.",
        Hook::NatOutput => "what this host sends, first packet of a connection: services.",
        Hook::NatPostrouting => {
            "what is marked is masqueraded and loses the mark; so is an endpoint that reached \
             itself."
        }
        Hook::FilterInput | Hook::FilterForward | Hook::FilterOutput => {
            "new connections that nothing translated: untranslated."
        }
    }
}

const fn key(place: Place) -> &'static str {
    match place {
        Place::Address => "address, protocol and port",
        Place::NodePort => "protocol and port",
    }
}

const fn from(list: List) -> &'static str {
    match list {
        List::Cluster => "list of the cluster",
        List::Local => "list of this node",
    }
}
