//! Whether the kernel still holds what was written, and mending what someone else changed.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasher as _, RandomState},
    io,
};

use shunt_ebpf::{
    address::Address,
    tables::{Frontend4, Frontend6, FrontendKey4, FrontendKey6, List, ServiceName, Target},
};

use super::{
    super::{
        slot::Slot,
        sys::{Array, Hash, Kernel, Word, bytes_of, values_of},
    },
    Tables,
    batch::Batch,
    frontends::Writes,
    services::encode_name,
};

/// What an audit mended, as counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Audit {
    /// Frontends that were gone or changed.
    pub(in super::super) frontends: usize,
    /// Frontends that nobody here wrote.
    pub(in super::super) foreign: usize,
    /// Lists that said something else.
    pub(in super::super) lists: usize,
    /// Names that were gone or changed.
    pub(in super::super) names: usize,
    /// Addresses of the node that were gone or not ours.
    pub(in super::super) addresses: usize,
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frontends written again, {} foreign ones removed; {} lists, {} names and {} node \
             addresses put right",
            self.frontends, self.foreign, self.lists, self.names, self.addresses
        )
    }
}

impl<K: Kernel> Tables<K> {
    /// Reads everything back, compares it with what was written, and writes what differs.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub(in super::super) fn audit(&mut self) -> io::Result<Audit> {
        let mut audit = Audit::default();
        // Lists first: a frontend that is mended must lead to the right one.
        self.audit_lists(&mut audit)?;
        self.audit_names(&mut audit)?;
        self.audit_frontends(&mut audit)?;
        self.audit_addresses(&mut audit)?;
        self.epoch.settle(&mut self.kernel)?;
        Ok(audit)
    }

    fn audit_lists(&mut self, audit: &mut Audit) -> io::Result<()> {
        let mut found: HashMap<u32, List> = HashMap::new();
        self.kernel.scan(Array::Lists, &mut |index, word| {
            let list = found.entry((index / 2) as u32).or_default();
            if index % 2 == 0 {
                list.word = word;
            } else {
                list.owner = word;
            }
        })?;
        let named: Vec<u32> = self.frontends.iter().map(|(_, named)| named.target.list()).collect();
        for number in named {
            let list = self.lists.get(number);
            if found.insert(number, list).unwrap_or_default() != list {
                self.kernel.store(Word::owner(number), list.owner)?;
                self.kernel.store(Word::list(number), list.word)?;
                audit.lists += 1;
            }
        }
        Ok(())
    }

    fn audit_names(&mut self, audit: &mut Audit) -> io::Result<()> {
        // A name is two hundred bytes, so of all that are there only fingerprints are kept. That
        // another one has the same is once in 2^64.
        let hasher = RandomState::default();
        let mut found: HashMap<u32, u64> = HashMap::new();
        self.kernel.read(Hash::Services, &mut |keys, values| {
            let names = values_of::<ServiceName>(values);
            let prints = names.map(|name| hasher.hash_one(bytes_of(&[name])));
            found.extend(values_of::<u32>(keys).zip(prints));
        })?;
        let mut lost = Batch::new(Hash::Services);
        for (key, record) in &self.records {
            let Some(code) = record.named else { continue };
            let Some(name) = encode_name(key, code) else { continue };
            if found.get(&record.service) != Some(&hasher.hash_one(bytes_of(&[name]))) {
                lost.put(record.service, name, ());
            }
        }
        let mut first = None;
        lost.update(&mut self.kernel, |(), result| {
            audit.names += usize::from(result.is_ok());
            first = first.take().or_else(|| result.err());
        });
        first.map_or(Ok(()), Err)
    }

    fn audit_frontends(&mut self, audit: &mut Audit) -> io::Result<()> {
        let mut found: HashMap<Slot, Option<Target>> = HashMap::new();
        let (keys, values) = self.kernel.entries(Hash::Frontends4)?;
        for (key, value) in values_of::<FrontendKey4>(&keys).zip(values_of::<Frontend4>(&values)) {
            let fits = value.key == key && value.seal == key.seal(value.target);
            found.insert(Slot::V4(key), fits.then_some(value.target));
        }
        let (keys, values) = self.kernel.entries(Hash::Frontends6)?;
        for (key, value) in values_of::<FrontendKey6>(&keys).zip(values_of::<Frontend6>(&values)) {
            let fits = value.key == key && value.seal == key.seal(value.target);
            found.insert(Slot::V6(key), fits.then_some(value.target));
        }
        self.kernel.scan(Array::NodePorts, &mut |index, word| {
            found.insert(Slot::NodePort(index as u32), Some(Target(word as u32)));
        })?;
        let (mut lost, mut foreign) = (Writes::new(), Writes::new());
        for (slot, named) in self.frontends.iter() {
            if found.remove(&slot) != Some(Some(named.target)) {
                lost.put(slot, named.target, ());
            }
        }
        for slot in found.into_keys() {
            foreign.drop(slot, ());
        }
        let mut first = None;
        lost.update(&mut self.kernel, &mut self.epoch, |_, (), result| {
            audit.frontends += usize::from(result.is_ok());
            first = first.take().or_else(|| result.err());
        });
        foreign.delete(&mut self.kernel, &mut self.epoch, |_, (), result| {
            audit.foreign += usize::from(result.is_ok());
            first = first.take().or_else(|| result.err());
        });
        first.map_or(Ok(()), Err)
    }

    fn audit_addresses(&mut self, audit: &mut Audit) -> io::Result<()> {
        let (keys, _) = self.kernel.entries(Hash::NodeAddresses)?;
        let found: HashSet<Address> = values_of(&keys).collect();
        if found == self.node_addresses {
            return Ok(());
        }
        let (mut more, mut fewer) =
            (Batch::new(Hash::NodeAddresses), Batch::new(Hash::NodeAddresses));
        for address in self.node_addresses.difference(&found) {
            more.put(*address, 1_u32, ());
        }
        for address in found.difference(&self.node_addresses) {
            fewer.drop(*address, ());
        }
        let mut first = None;
        let mut count = |(), result: io::Result<()>| {
            audit.addresses += usize::from(result.is_ok());
            first = first.take().or_else(|| result.err());
        };
        self.epoch.begin(&mut self.kernel)?;
        more.update(&mut self.kernel, &mut count);
        fewer.delete(&mut self.kernel, &mut count);
        self.epoch.end(&mut self.kernel);
        first.map_or(Ok(()), Err)
    }
}
