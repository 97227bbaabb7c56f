//! The real kernel behind the tables: map descriptors and mapped arrays.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use shunt_ebpf::tables::Endpoint;

use super::{
    Array, Hash, Interrupted, Kernel, Table, Word,
    bpf::{self, MapInfo},
    mapped::{Mapped, WINDOW},
    plain::{bytes_of, values_of},
};

/// Entries that one batch call carries: the kernel holds no lock over a batch, but a reader of the
/// epoch should not see it odd for long.
const BATCH: usize = 4096;

/// How long the kernel's allocator of map entries gets for a refill. Since Linux 6.1 it hands out
/// some dozens a processor, and takes more from the system in work that an interrupt does: where
/// that comes with the clock's tick, a batch is faster, and is told ENOMEM.
const REFILL: Duration = Duration::from_millis(2);

/// How many refills in a row may bring nothing before there is no memory indeed.
const REFILLS: u32 = 50;

/// The maps, by descriptor.
pub(in super::super) struct Maps {
    hashes: BTreeMap<Hash, (OwnedFd, MapInfo)>,
    arrays: BTreeMap<Array, (Mapped, MapInfo)>,
    /// The arrays once more, for reading without mapping.
    descriptors: BTreeMap<Array, OwnedFd>,
}

impl Maps {
    /// Takes the descriptors that `open` gives and checks that each is the map that its name says.
    ///
    /// # Errors
    ///
    /// Fails where one is absent or has another shape, naming it.
    pub(in super::super) fn open(
        mut open: impl FnMut(&'static str) -> io::Result<OwnedFd>,
    ) -> io::Result<Self> {
        let mut hashes = BTreeMap::new();
        for hash in Hash::ALL {
            let fd = open(hash.name())?;
            let info = bpf::map_info(fd.as_fd())?;
            expect_shape(hash.name(), info, hash.key_size(), hash.value_size())?;
            hashes.insert(hash, (fd, info));
        }
        let (mut arrays, mut descriptors) = (BTreeMap::new(), BTreeMap::new());
        for array in Array::ALL {
            let fd = open(array.name())?;
            let info = bpf::map_info(fd.as_fd())?;
            expect_shape(array.name(), info, size_of::<u32>(), array.words() * size_of::<u64>())?;
            let words = info.max_entries as usize * array.words();
            descriptors.insert(array, fd.try_clone()?);
            arrays.insert(array, (Mapped::new(fd, words), info));
        }
        Ok(Self { hashes, arrays, descriptors })
    }

    /// The id of a map, by which programs name it.
    pub(in super::super) fn id(&self, hash: Hash) -> Option<u32> {
        self.hashes.get(&hash).map(|(_, info)| info.id)
    }

    fn hash(&self, hash: Hash) -> io::Result<BorrowedFd<'_>> {
        let (fd, _) =
            self.hashes.get(&hash).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(fd.as_fd())
    }

    fn array(&mut self, array: Array) -> io::Result<&mut Mapped> {
        let (mapped, _) =
            self.arrays.get_mut(&array).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(mapped)
    }
}

fn expect_shape(name: &str, info: MapInfo, key: usize, value: usize) -> io::Result<()> {
    if info.key_size as usize == key && info.value_size as usize == value {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "map {name} has keys of {} and values of {} bytes instead of {key} and {value}",
            info.key_size, info.value_size
        ),
    ))
}

impl Kernel for Maps {
    #[expect(clippy::disallowed_methods, reason = "nothing tells when the allocator has entries")]
    fn update(&mut self, map: Hash, keys: &[u8], values: &[u8]) -> Result<(), Interrupted> {
        let fd = self.hash(map).map_err(|cause| Interrupted { done: 0, cause })?;
        let total = (keys.len() / map.key_size()).min(values.len() / map.value_size());
        let (mut done, mut waits) = (0, 0);
        while done < total {
            let count = (total - done).min(BATCH);
            let keys = keys.get(done * map.key_size()..).unwrap_or_default();
            let values = values.get(done * map.value_size()..).unwrap_or_default();
            let (written, result) = bpf::map_update_batch(fd, keys, values, count as u32);
            done += written as usize;
            waits = if written == 0 { waits + 1 } else { 1 };
            match result {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && waits <= REFILLS => {
                    thread::sleep(REFILL);
                }
                Err(cause) => return Err(Interrupted { done, cause }),
            }
        }
        Ok(())
    }

    fn delete(&mut self, map: Hash, keys: &[u8]) -> Result<(), Interrupted> {
        let fd = self.hash(map).map_err(|cause| Interrupted { done: 0, cause })?;
        let total = keys.len() / map.key_size();
        let mut done = 0;
        while done < total {
            let count = (total - done).min(BATCH);
            let rest = keys.get(done * map.key_size()..).unwrap_or_default();
            let (deleted, result) = bpf::map_delete_batch(fd, rest, count as u32);
            done += deleted as usize;
            match result {
                Ok(()) => {}
                // Somebody was faster with this one: the batch goes on behind it.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => done += 1,
                Err(cause) => return Err(Interrupted { done, cause }),
            }
        }
        Ok(())
    }

    fn read(&self, map: Hash, some: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let sizes = (map.key_size(), map.value_size());
        read_batches(self.hash(map)?, sizes, self.size(Table::Hash(map)), some)
    }

    fn store(&mut self, word: Word, value: u64) -> io::Result<()> {
        self.array(word.array)?.store(word.index, value)
    }

    fn load(&mut self, word: Word) -> io::Result<u64> {
        self.array(word.array)?.load(word.index)
    }

    fn write_run(&mut self, base: u32, endpoints: &[Endpoint]) -> io::Result<()> {
        let words: Vec<u64> = values_of(bytes_of(endpoints)).collect();
        self.array(Array::Endpoints)?.write(base as usize * Array::Endpoints.words(), &words)
    }

    fn read_run(&mut self, base: u32, count: u32) -> io::Result<Vec<Endpoint>> {
        let each = Array::Endpoints.words();
        let words =
            self.array(Array::Endpoints)?.read(base as usize * each, count as usize * each)?;
        Ok(values_of(bytes_of(&words)).collect())
    }

    fn scan(&self, array: Array, each: &mut dyn FnMut(usize, u64)) -> io::Result<()> {
        let fd =
            self.descriptors.get(&array).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let words = self.size(Table::Array(array)) as usize * array.words();
        // One window at a time: a batch of system calls takes 130 ms for the node ports alone, and
        // what stays mapped counts as resident.
        for start in (0..words).step_by(WINDOW) {
            let mut window = Mapped::new(fd.try_clone()?, words);
            for (index, word) in (start..).zip(window.words(start, words - start)?) {
                match word.load(Ordering::Acquire) {
                    0 => {}
                    value => each(index, value),
                }
            }
        }
        Ok(())
    }

    fn size(&self, table: Table) -> u32 {
        let info = match table {
            Table::Hash(hash) => self.hashes.get(&hash).map(|(_, info)| info),
            Table::Array(array) => self.arrays.get(&array).map(|(_, info)| info),
        };
        info.map_or(0, |info| info.max_entries)
    }
}

/// Reads all entries of a map, some thousand at a time.
pub(in super::super) fn read_batches(
    map: BorrowedFd<'_>,
    (key_size, value_size): (usize, usize),
    max_entries: u32,
    mut each: impl FnMut(&[u8], &[u8]),
) -> io::Result<()> {
    // A bucket of a hash map must fit into a batch whole; buckets are short.
    let batch = (max_entries as usize).clamp(64, BATCH);
    let (mut keys, mut values) = (vec![0; batch * key_size], vec![0; batch * value_size]);
    let mut position = None;
    loop {
        let (count, more) =
            bpf::map_lookup_batch(map, &mut position, &mut keys, &mut values, batch as u32)?;
        each(
            keys.get(..count as usize * key_size).unwrap_or_default(),
            values.get(..count as usize * value_size).unwrap_or_default(),
        );
        if !more {
            return Ok(());
        }
    }
}
