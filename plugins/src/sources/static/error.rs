//! What can go wrong with files.

use std::{io, path::PathBuf};

use shunt_core::source::ObjectId;

use crate::sources::objects::ObjectError;

/// The source cannot start. Not retryable without a change outside.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
    /// Nothing to read.
    #[error("no file or folder of manifests is given (--manifests)")]
    NoPaths,
    /// A path that does not exist or may not be read.
    #[error("failed to open manifests in {}", path.display())]
    Open {
        /// The path as it was given.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A path that is neither a file nor a folder.
    #[error("{} is neither a file nor a folder", path.display())]
    NotAFile {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The kernel gives no notifications of changes.
    #[error("failed to watch {}", path.display())]
    Watch {
        /// The folder to be watched.
        path: PathBuf,
        /// Why.
        #[source]
        cause: notify::Error,
    },
}

/// A file could not be read as a whole: its last good content stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("failed to read the file")]
    Io(#[source] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("failed to parse JSON")]
    Json(#[source] serde_json::Error),
    #[error("failed to parse YAML")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    #[error("failed to parse it: this is a bug of the parser")]
    Panic(#[source] tokio::task::JoinError),
    #[error("it holds no object (to remove its objects, remove it, or leave an empty List)")]
    Empty,
    #[error("a document with items is of kind {0:?} and not a List: it looks cut off")]
    NotAList(String),
}

/// Something that an operator has to mend; what was good before stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("failed to take up {}: its last good content stays", file.display())]
    File {
        file: PathBuf,
        #[source]
        cause: ReadError,
    },
    #[error("failed to take an object of {}: its last good version stays", file.display())]
    Object {
        file: PathBuf,
        #[source]
        cause: ObjectError,
    },
    #[error("{id} is in {} and in {}: the first is used", used.display(), other.display())]
    Twice { id: ObjectId, used: PathBuf, other: PathBuf },
    #[error("failed to list folder {}: what is known of it stays", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("failed to watch {}: changes there are not seen until a restart", path.display())]
    Watch {
        path: PathBuf,
        #[source]
        cause: notify::Error,
    },
}
