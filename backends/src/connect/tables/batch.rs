//! Entries for one hash map, written together and accounted for one by one.

use std::io;

use super::super::sys::{Hash, Interrupted, Kernel, Plain, bytes_of};

/// Entries that wait to be written or deleted, each with what the caller calls it by.
pub(super) struct Batch<T> {
    hash: Hash,
    keys: Vec<u8>,
    values: Vec<u8>,
    tags: Vec<T>,
}

impl<T> Batch<T> {
    /// Nothing yet.
    pub(super) const fn new(hash: Hash) -> Self {
        Self { hash, keys: Vec::new(), values: Vec::new(), tags: Vec::new() }
    }

    /// Whether there is nothing to do.
    pub(super) const fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Adds an entry to write.
    pub(super) fn put<K: Plain, V: Plain>(&mut self, key: K, value: V, tag: T) {
        self.keys.extend_from_slice(bytes_of(&[key]));
        self.values.extend_from_slice(bytes_of(&[value]));
        self.tags.push(tag);
    }

    /// Adds an entry to delete.
    pub(super) fn drop<K: Plain>(&mut self, key: K, tag: T) {
        self.keys.extend_from_slice(bytes_of(&[key]));
        self.tags.push(tag);
    }

    /// Writes all entries and says of each how it went.
    pub(super) fn update(
        self,
        kernel: &mut impl Kernel,
        each: impl FnMut(T, Result<(), io::Error>),
    ) {
        let Self { hash, keys, values, tags } = self;
        let (key, value) = (hash.key_size(), hash.value_size());
        account(tags, each, |start| {
            let keys = keys.get(start * key..).unwrap_or_default();
            let values = values.get(start * value..).unwrap_or_default();
            kernel.update(hash, keys, values)
        });
    }

    /// Deletes all entries and says of each how it went.
    pub(super) fn delete(
        self,
        kernel: &mut impl Kernel,
        each: impl FnMut(T, Result<(), io::Error>),
    ) {
        let Self { hash, keys, values: _, tags } = self;
        account(tags, each, |start| {
            kernel.delete(hash, keys.get(start * hash.key_size()..).unwrap_or_default())
        });
    }

    /// Says of every entry that it failed, where nothing could even be tried.
    pub(super) fn fail(self, cause: &io::Error, mut each: impl FnMut(T, Result<(), io::Error>)) {
        for tag in self.tags {
            each(tag, Err(again(cause)));
        }
    }
}

/// Goes on behind each entry that fails: one that is refused must not hold up the others.
fn account<T>(
    tags: Vec<T>,
    mut each: impl FnMut(T, Result<(), io::Error>),
    mut write_from: impl FnMut(usize) -> Result<(), Interrupted>,
) {
    let total = tags.len();
    let mut tags = tags.into_iter();
    let mut start = 0;
    while start < total {
        let (done, failed) = match write_from(start) {
            Ok(()) => (total - start, None),
            Err(Interrupted { done, cause }) => (done, Some(cause)),
        };
        tags.by_ref().take(done).for_each(|tag| each(tag, Ok(())));
        start += done;
        if let Some(cause) = failed
            && let Some(tag) = tags.next()
        {
            each(tag, Err(cause));
            start += 1;
        }
    }
}

/// An I/O error cannot be cloned; its number says the same.
fn again(cause: &io::Error) -> io::Error {
    cause.raw_os_error().map_or_else(|| cause.kind().into(), io::Error::from_raw_os_error)
}
