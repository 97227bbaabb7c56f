//! How a call on a socket fails.

use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Why something that a pod tried did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Failure {
    /// The kernel said no; the number is what the application sees.
    #[error("{call} failed with {}", Errno::from_raw(*errno))]
    Errno {
        /// The system call.
        call: String,
        /// The error number.
        errno: i32,
    },
    /// The probe process could not do what it was told, or is gone.
    #[error("the probe process failed: {0}")]
    Probe(String),
}

impl Failure {
    /// `call` failed with `error`.
    #[must_use]
    pub fn of(call: &str, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::Errno { call: call.to_owned(), errno },
            None => Self::Probe(format!("{call}: {error}")),
        }
    }

    /// The system call that failed and its error number, if it was the kernel.
    #[must_use]
    pub fn errno(&self) -> Option<(&str, Errno)> {
        match self {
            Self::Errno { call, errno } => Some((call, Errno::from_raw(*errno))),
            Self::Probe(_) => None,
        }
    }
}
