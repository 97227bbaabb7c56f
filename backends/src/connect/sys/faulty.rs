//! A kernel that fails some of the calls, and one that is never called again after a while.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use shunt_ebpf::tables::Endpoint;

use super::{Array, Hash, Interrupted, Kernel, Table, Word};

/// Passes calls on to another kernel and makes some of them fail.
pub(in super::super) struct Faulty<K> {
    inner: K,
    faults: Arc<Faults>,
}

/// The plan of faults, shared with the test that counts them.
#[derive(Default)]
pub(in super::super) struct Faults {
    /// Percentage of calls that fail.
    pub(in super::super) percent: AtomicU64,
    /// Faults that were really injected.
    pub(in super::super) injected: AtomicU64,
    /// Writes after which the process is dead: nothing is written any more. 0: it lives.
    pub(in super::super) dies_after: AtomicU64,
    writes: AtomicU64,
    seed: AtomicU64,
}

impl Faults {
    /// No faults yet; the same seed gives the same faults for the same calls.
    pub(in super::super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { seed: AtomicU64::new(seed | 1), ..Self::default() })
    }

    /// A number below `bound`, by xorshift.
    fn random(&self, bound: u64) -> u64 {
        let mut seed = self.seed.load(Ordering::Relaxed);
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        self.seed.store(seed, Ordering::Relaxed);
        (seed >> 11) % bound.max(1)
    }

    /// How many of `count` writes happen before one fails.
    fn allowed(&self, count: usize) -> usize {
        let mut allowed = count;
        if self.random(100) < self.percent.load(Ordering::Relaxed) {
            self.injected.fetch_add(1, Ordering::Relaxed);
            allowed = self.random(count as u64) as usize;
        }
        let dies_after = self.dies_after.load(Ordering::Relaxed);
        if dies_after > 0 {
            let left = dies_after.saturating_sub(self.writes.load(Ordering::Relaxed));
            allowed = allowed.min(left as usize);
        }
        self.writes.fetch_add(allowed as u64, Ordering::Relaxed);
        allowed
    }

    fn check(&self) -> io::Result<()> {
        if self.allowed(1) == 1 { Ok(()) } else { Err(fault()) }
    }
}

fn fault() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOMEM)
}

impl<K: Kernel> Faulty<K> {
    /// Wraps a kernel.
    pub(in super::super) const fn new(inner: K, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

impl<K: Kernel> Kernel for Faulty<K> {
    fn update(&mut self, map: Hash, keys: &[u8], values: &[u8]) -> Result<(), Interrupted> {
        let count = keys.len() / map.key_size();
        let done = self.faults.allowed(count);
        let (keys, values) = (&keys[..done * map.key_size()], &values[..done * map.value_size()]);
        self.inner.update(map, keys, values)?;
        if done == count { Ok(()) } else { Err(Interrupted { done, cause: fault() }) }
    }

    fn delete(&mut self, map: Hash, keys: &[u8]) -> Result<(), Interrupted> {
        let count = keys.len() / map.key_size();
        let done = self.faults.allowed(count);
        self.inner.delete(map, &keys[..done * map.key_size()])?;
        if done == count { Ok(()) } else { Err(Interrupted { done, cause: fault() }) }
    }

    fn read(&self, map: Hash, some: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        self.inner.read(map, some)
    }

    fn store(&mut self, word: Word, value: u64) -> io::Result<()> {
        self.faults.check()?;
        self.inner.store(word, value)
    }

    fn load(&mut self, word: Word) -> io::Result<u64> {
        self.inner.load(word)
    }

    fn write_run(&mut self, base: u32, endpoints: &[Endpoint]) -> io::Result<()> {
        let done = self.faults.allowed(endpoints.len());
        self.inner.write_run(base, &endpoints[..done])?;
        if done == endpoints.len() { Ok(()) } else { Err(fault()) }
    }

    fn read_run(&mut self, base: u32, count: u32) -> io::Result<Vec<Endpoint>> {
        self.inner.read_run(base, count)
    }

    fn scan(&self, array: Array, each: &mut dyn FnMut(usize, u64)) -> io::Result<()> {
        self.inner.scan(array, each)
    }

    fn size(&self, table: Table) -> u32 {
        self.inner.size(table)
    }
}
