//! One agent at a time for a table: two would repair each other's for ever.
//!
//! The lock is an abstract Unix socket of the table's name. Such names belong to the network
//! namespace, as tables do, and go with the process that has them, however it ends.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use rustix::net::sockopt::socket_peercred;

/// The lock, for as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    _socket: UnixListener,
}

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// Another agent has it.
    #[error("another agent{} uses it", holder.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    Held {
        /// Its process, where the kernel shows it here.
        holder: Option<i32>,
    },
    /// The socket cannot be made.
    #[error("cannot bind the socket that stands for the lock")]
    Bind(#[from] io::Error),
}

impl Lock {
    /// Takes the lock of the tables of this name.
    ///
    /// # Errors
    ///
    /// Fails if another agent of this network namespace has it, naming it.
    pub(super) fn acquire(table: &str) -> Result<Self, LockError> {
        let address = SocketAddr::from_abstract_name(format!("nftables table {table}"))?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(LockError::Held { holder: holder(&address) })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Who listens there. Nobody accepts, but the kernel completes a connection without that.
fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let holder = socket_peercred(&stream).ok()?.pid;
    Some(holder.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_is_first() {
        let table = format!("test-{}", std::process::id());
        let first = Lock::acquire(&table).unwrap();
        let refusal = Lock::acquire(&table).unwrap_err().to_string();
        assert_eq!(refusal, format!("another agent (pid {}) uses it", std::process::id()));
        assert!(Lock::acquire(&format!("{table}-other")).is_ok());
        drop(first);
        Lock::acquire(&table).unwrap();
    }
}
