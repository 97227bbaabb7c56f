//! The edge to the kernel: every system call of ours and every unsafe block of this crate.
//!
//! What the tables need stands behind [`Kernel`], which has a real implementation ([`Maps`]), one
//! in memory for tests, and a wrapper that makes calls fail.

mod bpf;
mod load;
mod mapped;
mod maps;
mod plain;
mod process;
mod system;

#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
pub(super) mod faulty;

use std::io;

use shunt_ebpf::{
    address::Address,
    tables::{Endpoint, Frontend4, Frontend6, FrontendKey4, FrontendKey6, ServiceName},
};

pub(super) use self::{
    bpf::*,
    load::*,
    mapped::try_mapping,
    maps::{Maps, read_batches},
    plain::{Plain, bytes_of, values_of},
    process::*,
    system::*,
};

/// What the tables ask of the kernel.
///
/// Each method that writes either writes all, or says how much of it was written; a single entry,
/// word or run is never half visible to a program.
pub(super) trait Kernel: Send {
    /// Writes entries into a hash map one after the other.
    ///
    /// # Errors
    ///
    /// The entries before the one that failed are written, it and those after it are not.
    fn update(&mut self, map: Hash, keys: &[u8], values: &[u8]) -> Result<(), Interrupted>;

    /// Deletes entries from a hash map one after the other; one that is not there is no error.
    ///
    /// # Errors
    ///
    /// The entries before the one that failed are deleted, it and those after it are not.
    fn delete(&mut self, map: Hash, keys: &[u8]) -> Result<(), Interrupted>;

    /// Reads a hash map and hands out some entries at a time: keys and values, one after the other.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    fn read(&self, map: Hash, some: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()>;

    /// Reads a whole hash map: keys and values, one after the other.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    fn entries(&self, map: Hash) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut all_keys, mut all_values) = (Vec::new(), Vec::new());
        self.read(map, &mut |keys, values| {
            all_keys.extend_from_slice(keys);
            all_values.extend_from_slice(values);
        })?;
        Ok((all_keys, all_values))
    }

    /// Stores a word, after everything that was written before it (release).
    ///
    /// # Errors
    ///
    /// Fails if the word's page cannot be mapped.
    fn store(&mut self, word: Word, value: u64) -> io::Result<()>;

    /// Loads a word.
    ///
    /// # Errors
    ///
    /// Fails if the word's page cannot be mapped.
    fn load(&mut self, word: Word) -> io::Result<u64>;

    /// Writes endpoints to consecutive entries that no list names.
    ///
    /// # Errors
    ///
    /// Fails if the entries' pages cannot be mapped; some may be written then.
    fn write_run(&mut self, base: u32, endpoints: &[Endpoint]) -> io::Result<()>;

    /// Reads consecutive endpoints.
    ///
    /// # Errors
    ///
    /// Fails if the entries' pages cannot be mapped.
    fn read_run(&mut self, base: u32, count: u32) -> io::Result<Vec<Endpoint>>;

    /// Shows every word of an array that is not 0, in order and without keeping it mapped.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    fn scan(&self, array: Array, each: &mut dyn FnMut(usize, u64)) -> io::Result<()>;

    /// How many entries a table has room for.
    fn size(&self, table: Table) -> u32;
}

/// A call wrote only the first `done` entries.
#[derive(Debug, thiserror::Error)]
#[error("failed after {done} entries")]
pub(super) struct Interrupted {
    /// Entries that were written.
    pub(super) done: usize,
    /// Why the next one was not.
    #[source]
    pub(super) cause: io::Error,
}

/// A table: one of the maps that user space writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    /// A hash map.
    Hash(Hash),
    /// An mmapable array.
    Array(Array),
}

impl Table {
    /// The map's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hash(hash) => hash.name(),
            Self::Array(array) => array.name(),
        }
    }
}

/// A hash map that user space writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Hash {
    /// IPv4 frontends.
    Frontends4,
    /// IPv6 frontends.
    Frontends6,
    /// Addresses at which NodePorts are answered.
    NodeAddresses,
    /// Names of ServicePorts.
    Services,
}

impl Hash {
    /// All of them.
    pub(super) const ALL: [Self; 4] =
        [Self::Frontends4, Self::Frontends6, Self::NodeAddresses, Self::Services];

    /// The map's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Frontends4 => "FRONTENDS4",
            Self::Frontends6 => "FRONTENDS6",
            Self::NodeAddresses => "NODE_ADDRESSES",
            Self::Services => "SERVICES",
        }
    }

    /// The size of a key in bytes.
    pub(super) const fn key_size(self) -> usize {
        match self {
            Self::Frontends4 => size_of::<FrontendKey4>(),
            Self::Frontends6 => size_of::<FrontendKey6>(),
            Self::NodeAddresses => size_of::<Address>(),
            Self::Services => size_of::<u32>(),
        }
    }

    /// The size of a value in bytes.
    pub(super) const fn value_size(self) -> usize {
        match self {
            Self::Frontends4 => size_of::<Frontend4>(),
            Self::Frontends6 => size_of::<Frontend6>(),
            Self::NodeAddresses => size_of::<u32>(),
            Self::Services => size_of::<ServiceName>(),
        }
    }
}

/// An mmapable array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Array {
    /// What serves each NodePort.
    NodePorts,
    /// Lists of endpoints.
    Lists,
    /// Endpoints.
    Endpoints,
    /// What user space tells the programs.
    Control,
}

impl Array {
    /// All of them.
    pub(super) const ALL: [Self; 4] =
        [Self::NodePorts, Self::Lists, Self::Endpoints, Self::Control];

    /// The map's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NodePorts => "NODEPORTS",
            Self::Lists => "LISTS",
            Self::Endpoints => "ENDPOINTS",
            Self::Control => "CONTROL",
        }
    }

    /// The size of an element in 64-bit words.
    pub(super) const fn words(self) -> usize {
        match self {
            Self::NodePorts => 1,
            Self::Lists => 2,
            Self::Endpoints => 4,
            Self::Control => 8,
        }
    }
}

/// A 64-bit word in an array, which programs load at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Word {
    /// The array.
    pub(super) array: Array,
    /// The word's index in it, in words.
    pub(super) index: usize,
}

impl Word {
    /// `CONTROL.epoch`.
    pub(super) const EPOCH: Self = Self { array: Array::Control, index: 0 };
    /// `CONTROL.host_netns`.
    pub(super) const HOST_NETNS: Self = Self { array: Array::Control, index: 1 };
    /// `CONTROL.events`.
    pub(super) const EVENTS: Self = Self { array: Array::Control, index: 2 };

    /// What serves a NodePort.
    pub(super) const fn node_port(index: u32) -> Self {
        Self { array: Array::NodePorts, index: index as usize }
    }

    /// What a list says.
    pub(super) const fn list(number: u32) -> Self {
        Self { array: Array::Lists, index: number as usize * 2 }
    }

    /// Whose list it is.
    pub(super) const fn owner(number: u32) -> Self {
        Self { array: Array::Lists, index: number as usize * 2 + 1 }
    }
}
