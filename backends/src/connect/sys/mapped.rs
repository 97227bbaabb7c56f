//! Mmapable arrays, mapped in windows as they are needed.
//!
//! Every page of a mapped BPF array counts as resident from the start, used or not, so mapping
//! whole tables of 250,000 endpoints would cost a small cluster's agent as much as a large one's.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// Words in a window: 256 KiB, a multiple of every page size.
pub(super) const WINDOW: usize = 256 * 1024 / size_of::<u64>();

/// An array's memory as 64-bit words.
///
/// # Minimum kernel version
///
/// 5.5 (BPF_F_MMAPABLE).
pub(super) struct Mapped {
    fd: OwnedFd,
    words: usize,
    windows: Vec<Option<NonNull<AtomicU64>>>,
}

// SAFETY: the windows are mappings of this process and not of a thread, and only atomic operations
// touch them.
unsafe impl Send for Mapped {}

/// Maps an array with one word and stores in it.
///
/// # Errors
///
/// Fails where the kernel does not map arrays.
pub(in super::super) fn try_mapping(array: OwnedFd) -> io::Result<()> {
    Mapped::new(array, 1).store(0, 1)
}

impl Mapped {
    /// Maps nothing yet of an array of so many words.
    pub(super) fn new(fd: OwnedFd, words: usize) -> Self {
        Self { fd, words, windows: vec![None; words.div_ceil(WINDOW)] }
    }

    /// The words from `index` on, up to `len` of them: fewer at the end of a window.
    pub(super) fn words(&mut self, index: usize, len: usize) -> io::Result<&[AtomicU64]> {
        let (number, offset) = (index / WINDOW, index % WINDOW);
        let within = len.min(WINDOW - offset);
        if index.saturating_add(within) > self.words {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let base = self.window(number)?;
        // SAFETY: the offset lies within the window, which is mapped for `window_words` words,
        // and the check above keeps to the array's end.
        let first = unsafe { base.add(offset) };
        // SAFETY: as above for all of `within`; the mapping lives as long as `self`, which the
        // slice borrows. Programs read the same memory, hence atomics.
        Ok(unsafe { std::slice::from_raw_parts(first.as_ptr(), within) })
    }

    /// Stores one word after everything before it.
    pub(super) fn store(&mut self, index: usize, value: u64) -> io::Result<()> {
        let word = self.words(index, 1)?.first();
        word.map(|word| word.store(value, Ordering::Release))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }

    /// Loads one word.
    pub(super) fn load(&mut self, index: usize) -> io::Result<u64> {
        let word = self.words(index, 1)?.first();
        word.map(|word| word.load(Ordering::Acquire))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }

    /// Stores words that nobody reads yet.
    pub(super) fn write(&mut self, mut index: usize, mut values: &[u64]) -> io::Result<()> {
        while !values.is_empty() {
            let words = self.words(index, values.len())?;
            let (now, later) = values.split_at(words.len());
            for (word, value) in words.iter().zip(now) {
                word.store(*value, Ordering::Relaxed);
            }
            index += now.len();
            values = later;
        }
        Ok(())
    }

    /// Loads words.
    pub(super) fn read(&mut self, mut index: usize, len: usize) -> io::Result<Vec<u64>> {
        let mut values = Vec::with_capacity(len);
        while values.len() < len {
            let words = self.words(index, len - values.len())?;
            values.extend(words.iter().map(|word| word.load(Ordering::Relaxed)));
            index += words.len();
        }
        Ok(values)
    }

    fn window(&mut self, number: usize) -> io::Result<NonNull<AtomicU64>> {
        let words = self.window_words(number);
        let window = self
            .windows
            .get_mut(number)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if let Some(base) = window {
            return Ok(*base);
        }
        // SAFETY: a new shared mapping at an address of the kernel's choice; nothing in this
        // process lies there.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                words * size_of::<u64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.fd.as_raw_fd(),
                (number * WINDOW * size_of::<u64>()) as libc::off_t,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        *window = Some(base);
        Ok(base)
    }

    /// The words of a window: fewer in the last one.
    fn window_words(&self, number: usize) -> usize {
        self.words.saturating_sub(number * WINDOW).min(WINDOW)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        for number in 0..self.windows.len() {
            let bytes = self.window_words(number) * size_of::<u64>();
            let Some(base) = self.windows.get_mut(number).and_then(Option::take) else { continue };
            // SAFETY: this window was mapped with this length, and no slice of it can be alive:
            // they borrow `self`.
            let _ = unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
        }
    }
}
