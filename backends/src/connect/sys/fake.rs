//! The kernel in memory: what programs would see, and whether a reader could be led astray.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use shunt_ebpf::tables::{Endpoint, ListWord};

use super::{Array, Hash, Interrupted, Kernel, Table, Word};

/// Called after every single write with what the kernel then holds.
pub(in super::super) type Observer = Box<dyn FnMut(&State) + Send>;

/// The maps in memory; clones share them, as processes share pinned maps.
#[derive(Clone)]
pub(in super::super) struct Fake {
    state: Arc<Mutex<State>>,
    observer: Arc<Mutex<Option<Observer>>>,
}

/// What the maps hold.
pub(in super::super) struct State {
    hashes: BTreeMap<Hash, BTreeMap<Vec<u8>, Vec<u8>>>,
    words: BTreeMap<Word, u64>,
    pub(in super::super) endpoints: Vec<Endpoint>,
    /// Entries of runs that a list named at any time since the last grace period: a program may
    /// still be reading them, so nobody may write them.
    readable: HashSet<u32>,
    sizes: BTreeMap<Table, u32>,
}

impl Fake {
    /// Empty maps of these sizes; a table that is not named has room for 1,024 entries.
    pub(in super::super) fn new(sizes: &[(Table, u32)]) -> Self {
        let state = State {
            hashes: Hash::ALL.iter().map(|hash| (*hash, BTreeMap::new())).collect(),
            words: BTreeMap::new(),
            endpoints: Vec::new(),
            readable: HashSet::new(),
            sizes: sizes.iter().copied().collect(),
        };
        Self { state: Arc::new(Mutex::new(state)), observer: Arc::default() }
    }

    /// Watches every write from now on.
    pub(in super::super) fn observe(&self, observer: Option<Observer>) {
        *self.observer.lock().unwrap() = observer;
    }

    /// What the maps hold.
    pub(in super::super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets every program that runs now end.
    pub(in super::super) fn pass_grace(&self) {
        let mut state = self.state();
        let named: HashSet<u32> =
            state.words.iter().filter_map(|(word, value)| run(*word, *value)).flatten().collect();
        state.readable = named;
    }

    fn wrote(&self) {
        let state = self.state.lock().unwrap();
        if let Some(observer) = self.observer.lock().unwrap().as_mut() {
            observer(&state);
        }
    }
}

/// The entries that a word makes readable.
fn run(word: Word, value: u64) -> Option<std::ops::Range<u32>> {
    if word.array != Array::Lists || !word.index.is_multiple_of(2) {
        return None;
    }
    match ListWord::decode(value) {
        ListWord::Run { base, count } => Some(base..base + count),
        ListWord::Left | ListWord::Refuse => None,
    }
}

impl State {
    /// A value in a hash map.
    pub(in super::super) fn lookup(&self, hash: Hash, key: &[u8]) -> Option<&[u8]> {
        self.hashes.get(&hash)?.get(key).map(Vec::as_slice)
    }

    /// A word.
    pub(in super::super) fn word(&self, word: Word) -> u64 {
        self.words.get(&word).copied().unwrap_or_default()
    }

    /// Entries of a hash map.
    pub(in super::super) fn hash(&self, hash: Hash) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.hashes[&hash]
    }

    /// Writes anything anywhere, as someone else with the right to do so would.
    pub(in super::super) fn tamper(&mut self, hash: Hash, key: &[u8], value: &[u8]) {
        self.hashes.get_mut(&hash).unwrap().insert(key.to_vec(), value.to_vec());
    }

    /// As [`Self::tamper`], deleting.
    pub(in super::super) fn erase(&mut self, hash: Hash, key: &[u8]) {
        self.hashes.get_mut(&hash).unwrap().remove(key);
    }

    /// As [`Self::tamper`], for a word.
    pub(in super::super) fn tamper_word(&mut self, word: Word, value: u64) {
        self.words.insert(word, value);
    }

    fn expect_odd_epoch(&self, map: Hash) {
        let odd = self.word(Word::EPOCH) % 2 == 1;
        assert!(odd || map == Hash::Services, "{map:?} was written while the epoch was even");
    }

    fn size(&self, table: Table) -> u32 {
        self.sizes.get(&table).copied().unwrap_or(match table {
            Table::Array(Array::NodePorts) => shunt_ebpf::tables::NODE_PORTS,
            Table::Array(Array::Control) => 1,
            Table::Hash(_) | Table::Array(_) => 1024,
        })
    }
}

impl Kernel for Fake {
    fn update(&mut self, map: Hash, keys: &[u8], values: &[u8]) -> Result<(), Interrupted> {
        let entries = keys.chunks(map.key_size()).zip(values.chunks(map.value_size()));
        for (done, (key, value)) in entries.enumerate() {
            let mut state = self.state();
            let size = state.size(Table::Hash(map)) as usize;
            let hash = state.hashes.get_mut(&map).unwrap();
            if hash.len() >= size && !hash.contains_key(key) {
                let cause = io::Error::from_raw_os_error(libc::E2BIG);
                return Err(Interrupted { done, cause });
            }
            hash.insert(key.to_vec(), value.to_vec());
            state.expect_odd_epoch(map);
            drop(state);
            self.wrote();
        }
        Ok(())
    }

    fn delete(&mut self, map: Hash, keys: &[u8]) -> Result<(), Interrupted> {
        for key in keys.chunks(map.key_size()) {
            let mut state = self.state();
            state.hashes.get_mut(&map).unwrap().remove(key);
            state.expect_odd_epoch(map);
            drop(state);
            self.wrote();
        }
        Ok(())
    }

    fn read(&self, map: Hash, some: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        self.state().hashes[&map].iter().for_each(|(key, value)| some(key, value));
        Ok(())
    }

    fn store(&mut self, word: Word, value: u64) -> io::Result<()> {
        let mut state = self.state();
        let elements = state.size(Table::Array(word.array)) as usize;
        assert!(word.index < elements * word.array.words(), "{word:?} lies outside");
        state.words.insert(word, value);
        state.readable.extend(run(word, value).into_iter().flatten());
        drop(state);
        self.wrote();
        Ok(())
    }

    fn load(&mut self, word: Word) -> io::Result<u64> {
        Ok(self.state().word(word))
    }

    fn write_run(&mut self, base: u32, endpoints: &[Endpoint]) -> io::Result<()> {
        for (index, endpoint) in (base as usize..).zip(endpoints) {
            let mut state = self.state();
            assert!(index < state.size(Table::Array(Array::Endpoints)) as usize);
            assert!(!state.readable.contains(&(index as u32)), "entry {index} is being read");
            if state.endpoints.len() <= index {
                state.endpoints.resize(index + 1, Endpoint::default());
            }
            state.endpoints[index] = *endpoint;
            drop(state);
            self.wrote();
        }
        Ok(())
    }

    fn read_run(&mut self, base: u32, count: u32) -> io::Result<Vec<Endpoint>> {
        let state = self.state();
        let end = (base + count) as usize;
        Ok(state.endpoints.get(base as usize..end).unwrap_or_default().to_vec())
    }

    fn scan(&self, array: Array, each: &mut dyn FnMut(usize, u64)) -> io::Result<()> {
        let state = self.state();
        let words = state.words.iter().filter(|(word, _)| word.array == array);
        words.filter(|(_, value)| **value != 0).for_each(|(word, value)| each(word.index, *value));
        Ok(())
    }

    fn size(&self, table: Table) -> u32 {
        self.state().size(table)
    }
}
