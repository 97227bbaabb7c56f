//! What another proxy has beside ours, on this node. Only looks.

use std::{collections::BTreeMap, path::Path};

use nlink::netlink::{Connection, Nftables, nftables::Family as NftFamily};
use shunt_core::backend::BackendError;

/// What a kube-proxy has in this network namespace, one line for each place: its tables in
/// nftables mode, its chains in iptables mode, its interface in IPVS mode. Empty where nothing is
/// left of one.
///
/// # Errors
///
/// Fails where the kernel does not list its tables.
pub async fn kube_proxy() -> Result<Vec<String>, BackendError> {
    let open = |cause| BackendError::new("open a netlink socket for nftables", cause);
    let kernel = Connection::<Nftables>::new().map_err(open)?;
    let listed = |cause| BackendError::new("list the tables of nftables", cause);
    let tables = kernel.list_tables().await.map_err(listed)?;
    let chains = kernel.list_chains().await.map_err(listed)?;
    let tables = tables.iter().filter_map(|table| Some((family(table.family)?, &*table.name)));
    let chains = chains
        .iter()
        .filter_map(|chain| Some((family(chain.family)?, &*chain.table, &*chain.name)));
    let mut lines = said(tables, chains);
    lines.extend(elsewhere(Path::new("/")));
    Ok(lines)
}

const fn family(family: NftFamily) -> Option<&'static str> {
    match family {
        NftFamily::Ip => Some("ip"),
        NftFamily::Ip6 => Some("ip6"),
        _ => None,
    }
}

/// What is in nftables, where iptables-nft keeps its chains, too.
fn said<'a>(
    tables: impl Iterator<Item = (&'static str, &'a str)>,
    chains: impl Iterator<Item = (&'static str, &'a str, &'a str)>,
) -> Vec<String> {
    let own = tables.filter(|(_, name)| *name == "kube-proxy");
    let mut lines: Vec<String> = own
        .map(|(family, name)| format!("table {family} {name}, of kube-proxy in nftables mode"))
        .collect();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (family, table, _) in chains.filter(|(_, _, chain)| is_kube_proxys(chain)) {
        *counts.entry((family, table)).or_default() += 1;
    }
    lines.extend(counts.into_iter().map(|((family, table), count)| {
        format!("{count} KUBE-* chains in table {family} {table}, of kube-proxy in iptables mode")
    }));
    lines
}

/// Chains of kube-proxy in iptables mode. The kubelet has some of its own, such as KUBE-FIREWALL
/// and KUBE-KUBELET-CANARY, which are no sign of a proxy.
fn is_kube_proxys(chain: &str) -> bool {
    const NAMES: [&str; 6] =
        ["SERVICES", "EXTERNAL-SERVICES", "NODEPORTS", "POSTROUTING", "FORWARD", "MARK-MASQ"];
    const BEGINNINGS: [&str; 6] = ["PROXY-", "SVC-", "SVL-", "EXT-", "FW-", "SEP-"];
    chain.strip_prefix("KUBE-").is_some_and(|rest| {
        NAMES.contains(&rest) || BEGINNINGS.iter().any(|beginning| rest.starts_with(beginning))
    })
}

/// What is not in nftables: the interface of IPVS mode, and tables of iptables-legacy, of which
/// only the names can be had without changing anything.
fn elsewhere(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    if root.join("sys/class/net/kube-ipvs0").exists() {
        lines.push("interface kube-ipvs0, of kube-proxy in IPVS mode".to_owned());
    }
    for (file, tool) in [("ip_tables_names", "iptables"), ("ip6_tables_names", "ip6tables")] {
        let tables = std::fs::read_to_string(root.join("proc/net").join(file));
        if tables.is_ok_and(|tables| tables.lines().any(|table| table == "nat")) {
            lines.push(format!(
                "table nat of {tool}-legacy, in which kube-proxy may have chains: \
                 `{tool}-legacy-save -t nat | grep KUBE-` tells"
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tables_and_chains_of_a_kube_proxy_are_told_and_the_kubelets_are_not() {
        let tables = [("ip", "kube-proxy"), ("ip6", "shunt"), ("ip", "nat")];
        let chains = [
            ("ip", "nat", "KUBE-SERVICES"),
            ("ip", "nat", "KUBE-SVC-ERIFXISQEP7F7OF4"),
            ("ip", "nat", "KUBE-KUBELET-CANARY"),
            ("ip", "filter", "KUBE-FIREWALL"),
            ("ip6", "filter", "KUBE-PROXY-FIREWALL"),
            ("ip6", "nat", "CNI-HOSTPORT-DNAT"),
        ];
        assert_eq!(
            said(tables.into_iter(), chains.into_iter()),
            [
                "table ip kube-proxy, of kube-proxy in nftables mode",
                "2 KUBE-* chains in table ip nat, of kube-proxy in iptables mode",
                "1 KUBE-* chains in table ip6 filter, of kube-proxy in iptables mode",
            ]
        );
    }

    #[test]
    fn what_is_not_in_nftables_is_told_too() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(elsewhere(root.path()), Vec::<String>::new());
        fs::create_dir_all(root.path().join("sys/class/net/kube-ipvs0")).unwrap();
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        fs::write(root.path().join("proc/net/ip_tables_names"), "filter\nnat\n").unwrap();
        let lines = elsewhere(root.path());
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("kube-ipvs0") && lines[1].contains("iptables-legacy-save"));
    }
}
