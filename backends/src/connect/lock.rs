//! One agent at a time: a lock on the pin directory, which the kernel lifts when its holder dies.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// The lock, for as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    _directory: File,
}

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// Another agent has it.
    #[error("another agent{} uses it", holder.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    Held {
        /// Its process, where the kernel shows it here.
        holder: Option<u32>,
    },
    /// The directory cannot be opened or locked.
    #[error("cannot lock the directory")]
    Directory(#[from] io::Error),
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// Fails if another agent has it, naming it, or the directory cannot be locked.
    pub(super) fn acquire(directory: &Path) -> Result<Self, LockError> {
        let directory = File::open(directory)?;
        match directory.try_lock() {
            Ok(()) => Ok(Self { _directory: directory }),
            Err(TryLockError::WouldBlock) => {
                let inode = directory.metadata()?.ino();
                let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
                Err(LockError::Held { holder: holder_of(&locks, inode) })
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// The process that holds a lock on a file, by the text of `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 708 00:2f:1234 0 EOF`. Inodes of bpffs are unique enough without
/// their device, which overlay file systems show differently.
fn holder_of(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields.as_slice() else { return None };
        let found: u64 = file.rsplit(':').next()?.parse().ok()?;
        (found == inode).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_is_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::acquire(directory.path()).unwrap();
        let refusal = Lock::acquire(directory.path()).unwrap_err().to_string();
        assert_eq!(refusal, format!("another agent (pid {}) uses it", std::process::id()));
        drop(first);
        Lock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn the_holder_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 12 00:19:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 345 00:2f:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 346 00:2f:78 0 EOF\n";
        assert_eq!(holder_of(locks, 77), Some(345));
        assert_eq!(holder_of(locks, 78), None);
        assert_eq!(holder_of("nonsense", 77), None);
    }
}
