//! The edge to the kernel: everything that nftables is told and asked.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use nlink::{
    Connection,
    netlink::{
        Nftables,
        nftables::{
            BaseChain, Chain as NftChain, ChainInfo, FilterHook, NFT_MSG_DELSETELEM,
            NFT_MSG_NEWSETELEM, NatHook, Priority, RawMessage, Rule, Set, SetDataType, SetElement,
            SetElementData, SetFlags, SetInfo, SetKeyType, Transaction, Verdict,
        },
    },
};
use rustix::net::sockopt;
use shunt_core::model::Family;

use super::{
    data::{Bytes, Cursor, Data, ElementKey, Fields, chain_of_value, kind_value},
    dump::{Found, FoundElement, FoundRules},
    options::NftablesOptions,
    ruleset::{Chain, Field, Hook, RuleBody, SetName, Values, nft_family},
    wire::ElementList,
};

/// `NLM_F_CREATE`.
const CREATE: u16 = 0x400;

/// A change of the table itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Structure {
    /// The table is made.
    AddTable,
    /// The table goes, with all that is in it.
    DeleteTable,
    /// A set is made.
    AddSet(SetName),
    /// A chain is made, without rules.
    AddChain(Chain),
    /// A chain gets these rules in place of those that it has.
    Rules(Chain, Vec<RuleBody>),
    /// Frontends of a chain's kind lead to it.
    AddKind(Chain),
    /// Nothing leads to a chain any more.
    DeleteKind(Chain),
    /// A chain goes.
    DeleteChain(Chain),
}

/// A change of one element.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// The set.
    pub(super) set: SetName,
    /// The key.
    pub(super) key: Bytes,
    /// The last key, if the element that goes is a range.
    pub(super) end: Option<Bytes>,
    /// Whether an element of that key is there, and goes.
    pub(super) remove: bool,
    /// What is there afterwards.
    pub(super) put: Option<(Data, Option<Arc<str>>)>,
}

/// How large a transaction may be: a table of 100,000 Services with everything that they can have.
const LARGEST: usize = 256 << 20;

/// What the kernel does whole or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Batch {
    /// First.
    pub(super) before: Vec<Structure>,
    /// Then.
    pub(super) changes: Vec<Change>,
    /// Last.
    pub(super) after: Vec<Structure>,
}

impl Batch {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.changes.is_empty() && self.after.is_empty()
    }
}

/// The kernel would not.
#[derive(Debug, thiserror::Error)]
pub(super) enum KernelError {
    /// A transaction was refused, and nothing of it is there. A retry may help.
    #[error("the transaction was refused")]
    Refused(#[source] nlink::Error),
    /// It is not known whether the transaction is there. The table has to be read.
    #[error("the transaction was not answered")]
    Unanswered(#[source] nlink::Error),
    /// The table cannot be read. A retry may help.
    #[error("the table cannot be read")]
    Read(#[source] nlink::Error),
    /// A test had it fail.
    #[cfg(test)]
    #[error("injected {0}")]
    Injected(String),
}

impl KernelError {
    /// Whether the right to do it is missing.
    pub(super) fn is_denied(&self) -> bool {
        match self {
            Self::Refused(error) | Self::Unanswered(error) | Self::Read(error) => {
                error.is_permission_denied()
            }
            #[cfg(test)]
            Self::Injected(_) => false,
        }
    }

    /// Whether nothing of the transaction is there, for sure.
    pub(super) const fn is_whole(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Unanswered(_) | Self::Read(_) => false,
            #[cfg(test)]
            Self::Injected(_) => true,
        }
    }
}

/// What the backend asks of nftables.
#[async_trait]
pub(super) trait Kernel: Send + Sync {
    /// Commits a batch to the table of a family.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses; then nothing is changed, unless the error says that this is
    /// not known.
    async fn commit(&self, family: Family, batch: &Batch) -> Result<(), KernelError>;

    /// Reads the table of a family and hands out its elements; what is returned has none. `None` if
    /// there is no table.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses, or others keep on changing the table.
    async fn scan(
        &self,
        family: Family,
        each: &mut (dyn FnMut(ElementKey, FoundElement) + Send),
    ) -> Result<Option<Found>, KernelError>;

    /// Reads the table of a family with its elements; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`Self::scan`].
    async fn read(&self, family: Family) -> Result<Option<Found>, KernelError> {
        let mut elements = HashMap::new();
        let mut keep = |key, element| _ = elements.insert(key, element);
        let found = self.scan(family, &mut keep).await?;
        Ok(found.map(|found| Found { elements, ..found }))
    }

    /// Reads the rules of the table of a family.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    async fn rules(&self, family: Family) -> Result<FoundRules, KernelError>;

    /// Counts the clients that the table of a family remembers.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    async fn remembered(&self, family: Family) -> Result<u64, KernelError>;
}

/// The real one.
pub(super) struct Netlink {
    connection: Connection<Nftables>,
    table: String,
    affinity_size: u32,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Fails if the kernel has no nftables, or the process has not the right to use it.
    pub(super) fn open(options: &NftablesOptions) -> Result<Self, nlink::Error> {
        let connection = Connection::<Nftables>::new()?.timeout(options.patience);
        // A table that has to be made anew is made in one transaction, which is one message. Where
        // this is refused, small batches still pass.
        let _ = sockopt::set_socket_send_buffer_size_force(connection.socket(), LARGEST);
        Ok(Self { connection, table: options.table.clone(), affinity_size: options.affinity_size })
    }

    /// What the kernel calls the socket: changes that it made are notified as this one's.
    pub(super) fn port_id(&self) -> u32 {
        self.connection.socket().pid()
    }

    /// Deletes the table of a family, and says whether there was one.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub(super) async fn delete_table(&self, family: Family) -> Result<bool, KernelError> {
        let deleted = self.connection.del_table_if_exists(&*self.table, nft_family(family)).await;
        deleted.map_err(KernelError::Refused)
    }

    fn structure(
        &self,
        transaction: Transaction,
        family: Family,
        what: &Structure,
    ) -> Result<Transaction, nlink::Error> {
        let (table, nft) = (self.table.as_str(), nft_family(family));
        Ok(match what {
            Structure::AddTable => transaction.add_table(table, nft),
            Structure::DeleteTable => transaction.del_table(table, nft),
            Structure::AddSet(set) => {
                transaction.add_set(set_of(table, *set, family, self.affinity_size))
            }
            Structure::AddChain(chain) => {
                let new = NftChain::new(table, chain.to_string().as_str())?.family(nft);
                transaction.add_chain(match chain {
                    Chain::Base(hook) => new.base(base_chain(*hook)),
                    _ => new,
                })
            }
            Structure::Rules(chain, bodies) => {
                let name = chain.to_string();
                let flushed = transaction.flush_chain(table, &name, nft);
                bodies.iter().fold(flushed, |transaction, body| {
                    let mut rule = Rule::new(table, &name).family(nft);
                    if !body.comment.is_empty() {
                        rule = rule.comment(body.comment);
                    }
                    let whole = body.expressions.iter().cloned().fold(rule, Rule::then);
                    transaction.add_rule(whole)
                })
            }
            Structure::AddKind(chain) => {
                kinds_of(*chain).into_iter().fold(transaction, |transaction, (set, key)| {
                    let mut kinds = ElementList::new(table, set);
                    kinds.push_element(&key, &said_of_kind(set, *chain), None);
                    put(transaction, nft, NFT_MSG_NEWSETELEM, kinds)
                })
            }
            Structure::DeleteKind(chain) => {
                kinds_of(*chain).into_iter().fold(transaction, |transaction, (set, key)| {
                    let mut kinds = ElementList::new(table, set);
                    kinds.push_key(&key, None);
                    put(transaction, nft, NFT_MSG_DELSETELEM, kinds)
                })
            }
            Structure::DeleteChain(chain) => transaction.del_chain(table, &chain.to_string(), nft),
        })
    }

    fn changes(
        &self,
        mut transaction: Transaction,
        family: Family,
        changes: &[Change],
    ) -> Transaction {
        for same in changes.chunk_by(|a, b| a.set == b.set) {
            let Some(set) = same.first().map(|change| change.set) else { continue };
            if set.is_interval() && set.key().len() == 1 {
                transaction = self.intervals(transaction, family, set, same);
                continue;
            }
            let mut gone = ElementList::new(&self.table, set);
            let mut here = ElementList::new(&self.table, set);
            for change in same {
                if change.remove {
                    gone.push_key(&change.key, change.end.as_deref());
                }
                if let Some((data, comment)) = &change.put {
                    here.push_element(&change.key, data, comment.as_deref());
                }
            }
            let nft = nft_family(family);
            transaction = put(transaction, nft, NFT_MSG_DELSETELEM, gone);
            transaction = put(transaction, nft, NFT_MSG_NEWSETELEM, here);
        }
        transaction
    }

    /// Intervals of single addresses are two elements each, which nlink makes.
    fn intervals(
        &self,
        transaction: Transaction,
        family: Family,
        set: SetName,
        changes: &[Change],
    ) -> Transaction {
        let of = set_of(&self.table, set, family, self.affinity_size);
        let range = |key: &Bytes, end: &Bytes| SetElement::range(key.to_vec(), end.to_vec());
        let gone: Vec<SetElement> = changes
            .iter()
            .filter(|change| change.remove)
            .filter_map(|change| Some(range(&change.key, change.end.as_ref()?)))
            .collect();
        let here: Vec<SetElement> = changes
            .iter()
            .filter_map(|change| match &change.put {
                Some((Data::Until(end), _)) => Some(range(&change.key, end)),
                _ => None,
            })
            .collect();
        let transaction = match gone.is_empty() {
            true => transaction,
            false => transaction.del_set_elements(&of, &gone),
        };
        match here.is_empty() {
            true => transaction,
            false => transaction.add_set_elements(&of, &here),
        }
    }

    async fn read_all(
        &self,
        family: Family,
        each: &mut (dyn FnMut(ElementKey, FoundElement) + Send),
    ) -> Result<Option<Found>, nlink::Error> {
        let (table, nft) = (self.table.as_str(), nft_family(family));
        let tables = self.connection.list_tables_in(nft).await?;
        if !tables.iter().any(|known| known.name == self.table) {
            return Ok(None);
        }
        let mut found = Found::default();
        for info in self.connection.list_chains_in(table, nft).await? {
            note_chain(&mut found, &info);
        }
        found.rules = self.read_rules(family).await?;
        for info in self.connection.list_sets_in(table, nft).await? {
            self.note_set(&mut found, family, &info);
        }
        for set in found.sets.clone() {
            let elements = self.connection.list_set_elements(table, set.name(), nft).await?;
            if set == SetName::Affinity {
                found.remembered = elements.len() as u64;
                continue;
            }
            if matches!(set, SetName::Kinds | SetName::ListKinds | SetName::AnyKind) {
                elements.iter().for_each(|element| note_kind(&mut found, set, element));
                continue;
            }
            for element in elements {
                let (key, element) = found_element(set, &element);
                each((set, key), element);
            }
        }
        Ok(Some(found))
    }

    async fn read_rules(&self, family: Family) -> Result<FoundRules, nlink::Error> {
        let mut rules = FoundRules::new();
        for rule in self.connection.list_rules(&self.table, nft_family(family)).await? {
            rules.entry(rule.chain).or_default().push(rule.expression_bytes);
        }
        Ok(rules)
    }

    fn note_set(&self, found: &mut Found, family: Family, info: &SetInfo) {
        let Some(set) = SetName::by_name(&info.name) else {
            // Sets without a name of their own belong to a rule, and go with it.
            if !info.flags.contains(SetFlags::ANONYMOUS) {
                found.foreign.push(format!("set {}", info.name));
            }
            return;
        };
        if has_shape(info, set, family)
            && (set != SetName::Affinity || info.size == Some(self.affinity_size))
        {
            found.sets.push(set);
        } else {
            found.misshapen.push(format!("set {}", info.name));
        }
    }
}

#[async_trait]
impl Kernel for Netlink {
    async fn commit(&self, family: Family, batch: &Batch) -> Result<(), KernelError> {
        let mut transaction = self.connection.transaction();
        for what in &batch.before {
            transaction =
                self.structure(transaction, family, what).map_err(KernelError::Refused)?;
        }
        transaction = self.changes(transaction, family, &batch.changes);
        for what in &batch.after {
            transaction =
                self.structure(transaction, family, what).map_err(KernelError::Refused)?;
        }
        transaction.commit(&self.connection).await.map_err(|error| {
            if error.is_timeout() {
                KernelError::Unanswered(error)
            } else {
                KernelError::Refused(error)
            }
        })
    }

    async fn rules(&self, family: Family) -> Result<FoundRules, KernelError> {
        self.read_rules(family).await.map_err(KernelError::Read)
    }

    async fn remembered(&self, family: Family) -> Result<u64, KernelError> {
        let (set, nft) = (SetName::Affinity.name(), nft_family(family));
        let elements = self.connection.list_set_elements(&self.table, set, nft).await;
        Ok(elements.map_err(KernelError::Read)?.len() as u64)
    }

    async fn scan(
        &self,
        family: Family,
        each: &mut (dyn FnMut(ElementKey, FoundElement) + Send),
    ) -> Result<Option<Found>, KernelError> {
        self.read_all(family, each).await.map_err(KernelError::Read)
    }
}

fn note_chain(found: &mut Found, info: &ChainInfo) {
    let Ok(chain) = info.name.parse::<Chain>() else {
        found.foreign.push(format!("chain {}", info.name));
        return;
    };
    let is_base = info.hook.is_some();
    let fits = match chain {
        Chain::Base(hook) => {
            let wanted = base_chain(hook);
            info.hook == Some(wanted.hook().number(info.family))
                && info.priority == Some(wanted.priority().to_i32())
        }
        _ => !is_base,
    };
    if fits {
        found.chains.push(chain);
    } else {
        found.misshapen.push(format!("chain {}", info.name));
    }
}

/// Puts the messages of a list of elements into a transaction.
fn put(
    transaction: Transaction,
    family: nlink::netlink::nftables::Family,
    message: u8,
    elements: ElementList,
) -> Transaction {
    elements.done().into_iter().fold(transaction, |transaction, attributes| {
        let flags = if message == NFT_MSG_NEWSETELEM { CREATE } else { 0 };
        transaction.raw(RawMessage::new(message, family).flags(flags).attrs(attributes))
    })
}

/// Where a chain stands by its kind.
fn kinds_of(chain: Chain) -> Vec<ElementKey> {
    let Some((kind, count)) = chain.kind() else { return Vec::new() };
    let key = Fields::new().number(kind).number(count).done();
    let mut kinds = vec![(SetName::Kinds, key.clone()), (SetName::AnyKind, key.clone())];
    if chain.is_counted() {
        kinds.push((SetName::ListKinds, key));
    }
    kinds
}

/// What those sets say of the kind of a chain.
const fn said_of_kind(set: SetName, chain: Chain) -> Data {
    match set {
        SetName::AnyKind => Data::Member,
        _ => Data::Goto(chain),
    }
}

fn note_kind(found: &mut Found, set: SetName, element: &SetElement) {
    let mut key = Cursor(element.key());
    let kind = key.number().zip(key.number());
    let chain = kind.and_then(|(kind, count)| Chain::of_kind(kind, count));
    let (_, element) = found_element(set, element);
    match chain {
        Some(chain) if element.data == said_of_kind(set, chain) => found.kinds.push((set, chain)),
        _ => found.misshapen.push("an element of kinds".to_owned()),
    }
}

fn found_element(set: SetName, element: &SetElement) -> (Bytes, FoundElement) {
    let leads =
        matches!(set, SetName::Frontends(_) | SetName::ClusterLists(_) | SetName::LocalLists(_));
    let data = match (element.data(), element.key_end()) {
        (Some(SetElementData::Value(value)), None) if leads => {
            let chain = chain_of_value(value);
            let chain = chain.filter(|chain| {
                kind_value(element.key(), *chain).as_deref() == Some(value.as_slice())
            });
            chain.map_or(Data::Foreign, Data::Goto)
        }
        (Some(SetElementData::Value(value)), None) => Data::Value(value.as_slice().into()),
        (Some(SetElementData::Verdict(Verdict::Drop)), None) => Data::Drop,
        (Some(SetElementData::Verdict(Verdict::GotoTo(chain))), None) => {
            chain.as_str().parse().map_or(Data::Foreign, Data::Goto)
        }
        (Some(_), _) => Data::Foreign,
        (None, Some(end)) => Data::Until(end.into()),
        // A range of one key is read as that key alone.
        (None, None) if set.is_interval() => Data::Until(element.key().into()),
        (None, None) => Data::Member,
    };
    let comment = element.comment().map(Arc::from);
    (element.key().into(), FoundElement { data, comment })
}

fn has_shape(info: &SetInfo, set: SetName, family: Family) -> bool {
    let key = key_type(set.key(), family);
    let data = match set.values() {
        Values::Members => None,
        Values::Verdicts => Some(None),
        Values::Fields(fields) => Some(Some(key_type(fields, family))),
    };
    let is_map = info.flags.contains(SetFlags::MAP);
    let same_key = SetKeyType::from_kernel(info.key_type, info.key_len) == key;
    let same_data = match data {
        None => !is_map,
        // NFT_DATA_VERDICT.
        Some(None) => is_map && info.data_type == Some(0xffff_ff00),
        Some(Some(value)) => {
            let (Some(kind), Some(len)) = (info.data_type, info.data_len) else { return false };
            is_map && SetKeyType::from_kernel(kind, len) == value
        }
    };
    let is_interval = info.flags.contains(SetFlags::INTERVAL);
    same_key && same_data && is_interval == set.is_interval()
}

fn key_type(fields: &[Field], family: Family) -> SetKeyType {
    let one = |field: &Field| match (field, family) {
        (Field::Address, Family::V4) => SetKeyType::Ipv4Addr,
        (Field::Address, Family::V6) => SetKeyType::Ipv6Addr,
        (Field::Protocol, _) => SetKeyType::InetProto,
        (Field::Port, _) => SetKeyType::InetService,
        (Field::Number, _) => SetKeyType::Mark,
    };
    match fields {
        [field] => one(field),
        fields => SetKeyType::Concat(fields.iter().map(one).collect()),
    }
}

/// A set as it is made.
fn set_of(table: &str, set: SetName, family: Family, affinity_size: u32) -> Set {
    let new = Set::new(table, set.name())
        .family(nft_family(family))
        .key_type(key_type(set.key(), family))
        .comment(set.comment());
    let new = match set.values() {
        Values::Members => new,
        Values::Verdicts => new.vmap(),
        Values::Fields(fields) => new.map(SetDataType::Value(key_type(fields, family))),
    };
    let new = if set.is_interval() { new.interval() } else { new };
    if set == SetName::Affinity {
        return new.dynamic().per_element_timeouts().size(affinity_size);
    }
    new
}

fn base_chain(hook: Hook) -> BaseChain {
    match hook {
        Hook::NatPrerouting => BaseChain::nat(NatHook::Prerouting, Priority::DstNat),
        Hook::NatOutput => BaseChain::nat(NatHook::Output, Priority::DstNat),
        Hook::NatPostrouting => BaseChain::nat(NatHook::Postrouting, Priority::SrcNat),
        Hook::FilterInput => BaseChain::filter(FilterHook::Input, Priority::Filter),
        Hook::FilterForward => BaseChain::filter(FilterHook::Forward, Priority::Filter),
        Hook::FilterOutput => BaseChain::filter(FilterHook::Output, Priority::Filter),
    }
}

/// What a batch may weigh: the kernel takes no message larger than the socket's send buffer, which
/// has 208 KiB everywhere.
#[cfg(not(test))]
pub(super) const HEAVIEST: usize = 150_000;
/// In tests nearly every Delta is cut.
#[cfg(test)]
pub(super) const HEAVIEST: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_one_key_is_read_as_it_was_written() {
        let check = |set: SetName, element: &SetElement, expected: Data| {
            assert_eq!(found_element(set, element).1.data, expected, "{}", set.name());
        };
        let key = || vec![1, 2, 3, 4];
        let until = |end: &[u8]| Data::Until(end.into());
        check(SetName::Allowed, &SetElement::new(key()), until(&[1, 2, 3, 4]));
        check(SetName::Allowed, &SetElement::range(key(), vec![1, 2, 3, 9]), until(&[1, 2, 3, 9]));
        check(SetName::LocalPods, &SetElement::range(key(), key()), until(&[1, 2, 3, 4]));
        check(SetName::ClusterIps, &SetElement::new(key()), Data::Member);
    }
}
