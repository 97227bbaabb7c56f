//! The kernel's nftables as somebody else sees and changes them.

use anyhow::{Context as _, Result};
use nlink::{
    Connection,
    netlink::{
        Nftables,
        nftables::{
            BaseChain, Chain, Family as NftFamily, FilterHook, NFT_MSG_DELSETELEM, Priority,
            RawMessage, Rule, Set, SetFlags,
        },
    },
};
use shunt_core::model::Family;

use super::Stage;

/// The name of the two tables that a person finds with `nft list table ip shunt`.
const TABLE: &str = "shunt";

/// What somebody else does to the tables.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    /// Deletes the table of a family.
    Table(Family),
    /// Deletes every rule of a chain.
    Chain(Family, String),
    /// Deletes every element of a set or map.
    Elements(Family, String),
}

const fn nft(family: Family) -> NftFamily {
    match family {
        Family::V4 => NftFamily::Ip,
        Family::V6 => NftFamily::Ip6,
    }
}

fn connection() -> Result<Connection<Nftables>> {
    Connection::<Nftables>::new().context("cannot open a netlink socket")
}

/// The message that deletes all elements: nlink only models one that names them, by types that a
/// stranger does not know.
fn empty(family: NftFamily, set: &str) -> RawMessage {
    let mut attributes = Vec::new();
    for (kind, text) in [(1_u16, TABLE), (2, set)] {
        let length = text.len() + 5;
        attributes.extend((length as u16).to_ne_bytes());
        attributes.extend(kind.to_ne_bytes());
        attributes.extend(text.as_bytes());
        attributes.resize(attributes.len() + 1 + (4 - length % 4) % 4, 0);
    }
    RawMessage::new(NFT_MSG_DELSETELEM, family).attrs(attributes)
}

impl Stage<'_> {
    /// Whether there is a table in a family.
    pub(super) fn has_table(&self, family: Family) -> Result<bool> {
        let tables = self.block_on(async {
            Ok::<_, anyhow::Error>(connection()?.list_tables_in(nft(family)).await?)
        })?;
        Ok(tables.iter().any(|table| table.name == TABLE))
    }

    /// The chains of the table of a family that have rules.
    pub(super) fn chains(&self, family: Family) -> Result<Vec<String>> {
        let rules = self.block_on(async {
            Ok::<_, anyhow::Error>(connection()?.list_rules(TABLE, nft(family)).await?)
        })?;
        let mut chains: Vec<_> = rules.into_iter().map(|rule| rule.chain).collect();
        chains.sort_unstable();
        chains.dedup();
        Ok(chains)
    }

    /// The sets and maps of the table of a family, but for those that packets write: what is lost
    /// of these nobody can put back.
    pub(super) fn sets(&self, family: Family) -> Result<Vec<String>> {
        let sets = self.block_on(async {
            Ok::<_, anyhow::Error>(connection()?.list_sets_in(TABLE, nft(family)).await?)
        })?;
        let ours = sets.into_iter().filter(|set| !set.flags.contains(SetFlags::EVAL));
        Ok(ours.map(|set| set.name).collect())
    }

    /// Does it, and says whether there was anything to do.
    pub(super) fn damage(&self, damage: &Damage) -> Result<bool> {
        let work = async {
            let connection = connection()?;
            match damage {
                Damage::Table(family) => connection.del_table(TABLE, nft(*family)).await?,
                Damage::Chain(family, chain) => {
                    connection.flush_chain(TABLE, chain.as_str(), nft(*family)).await?;
                }
                Damage::Elements(family, set) => {
                    let family = nft(*family);
                    let elements = connection.list_set_elements(TABLE, set, family).await?;
                    if elements.is_empty() {
                        return Ok(false);
                    }
                    connection.transaction().raw(empty(family, set)).commit(&connection).await?;
                }
            }
            Ok::<_, anyhow::Error>(true)
        };
        self.block_on(work).with_context(|| format!("cannot do {damage:?}"))
    }

    /// Makes a table of our name that is not ours, with a chain that eats everything and a set of a
    /// name that a backend might want.
    pub(super) fn squat(&self, family: Family) -> Result<()> {
        let work = async {
            let family = nft(family);
            let chain = |name| Ok::<_, anyhow::Error>(Chain::new(TABLE, name)?.family(family));
            let eats = BaseChain::filter(FilterHook::Forward, Priority::Filter);
            connection()?
                .transaction()
                .add_table(TABLE, family)
                .add_chain(chain("filter-forward")?.base(eats))
                .add_rule(Rule::new(TABLE, "filter-forward").family(family).drop())
                .add_chain(chain("services")?)
                .add_rule(Rule::new(TABLE, "services").family(family).drop())
                .add_set(Set::new(TABLE, "frontends").family(family))
                .add_set(Set::new(TABLE, "foreign").family(family))
                .commit(&connection()?)
                .await?;
            Ok::<_, anyhow::Error>(())
        };
        self.block_on(work).context("cannot make a table of somebody else's")
    }

    /// Has packets from and to `address` tracked again.
    pub(super) fn track(&self, address: std::net::IpAddr) -> Result<()> {
        let family = nft(Family::of(address));
        let work = async {
            Ok::<_, anyhow::Error>(connection()?.del_table("nodelocaldns", family).await?)
        };
        self.block_on(work).with_context(|| format!("cannot track {address} again"))
    }

    /// Makes a table that leaves packets from and to `address` out of connection tracking, as
    /// NodeLocal DNSCache does for the address that it answers at.
    pub(super) fn leave_untracked(&self, address: std::net::IpAddr) -> Result<()> {
        let work = async {
            let family = nft(Family::of(address));
            let table = "nodelocaldns";
            let mut transaction = connection()?.transaction().add_table(table, family);
            for (name, hook) in [("pre", FilterHook::Prerouting), ("out", FilterHook::Output)] {
                let base = BaseChain::filter(hook, Priority::Raw);
                let chain = Chain::new(table, name)?.family(family).base(base);
                let rule = || Rule::new(table, name).family(family);
                let rules = match address {
                    std::net::IpAddr::V4(address) => {
                        [rule().match_daddr_v4(address, 32), rule().match_saddr_v4(address, 32)]
                    }
                    std::net::IpAddr::V6(address) => {
                        [rule().match_daddr_v6(address, 128), rule().match_saddr_v6(address, 128)]
                    }
                };
                transaction = transaction.add_chain(chain);
                for rule in rules {
                    transaction = transaction.add_rule(rule.notrack());
                }
            }
            transaction.commit(&connection()?).await?;
            Ok::<_, anyhow::Error>(())
        };
        self.block_on(work).with_context(|| format!("cannot leave {address} untracked"))
    }
}
