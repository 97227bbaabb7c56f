//! The paths that were given, and the files behind them.

use std::{
    ffi::OsStr,
    fmt, fs, io,
    ops::Deref,
    path::{Path, PathBuf, absolute},
    sync::Arc,
};

use super::error::StaticError;

/// The link that kubelet swaps when the content of a ConfigMap volume changes: the files beside it
/// are links through it, and nothing else tells that they changed.
const CONFIG_MAP_LINK: &str = "..data";

/// A file, ordered by the path on the command line that led to it and then by its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileKey {
    root: usize,
    path: Arc<Path>,
}

impl FileKey {
    /// Which of the given paths led to it.
    pub(super) const fn root(&self) -> usize {
        self.root
    }
}

impl Deref for FileKey {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// The paths that were given.
#[derive(Debug)]
pub(super) struct Roots(Vec<Root>);

#[derive(Debug)]
struct Root {
    path: PathBuf,
    is_folder: bool,
}

impl Roots {
    /// Checks that there is something to read at every path.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, StaticError> {
        if paths.is_empty() {
            return Err(StaticError::NoPaths);
        }
        let open = |path: &PathBuf| {
            let failed = |cause| StaticError::Open { path: path.clone(), cause };
            let metadata = path.metadata().map_err(failed)?;
            if metadata.is_dir() {
                fs::read_dir(path).map_err(failed)?;
            } else if metadata.is_file() {
                fs::File::open(path).map_err(failed)?;
            } else {
                return Err(StaticError::NotAFile { path: path.clone() });
            }
            let path = absolute(path).map_err(failed)?;
            Ok(Root { path, is_folder: metadata.is_dir() })
        };
        paths.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// The numbers of the paths.
    pub(super) fn indices(&self) -> std::ops::Range<usize> {
        0..self.0.len()
    }

    /// The folder in which changes of a path show.
    pub(super) fn folder(&self, index: usize) -> Option<&Path> {
        self.0.get(index)?.folder()
    }

    /// The files behind one of the paths, in order. What is not there is no error.
    pub(super) fn scan(&self, index: usize) -> Result<Vec<FileKey>, io::Error> {
        let Some(root) = self.0.get(index) else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        if root.is_folder {
            let entries = match fs::read_dir(&root.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
                entries => entries?,
            };
            for entry in entries {
                files.extend(self.file(&entry?.path()).filter(|file| file.root == index));
            }
            files.sort();
        } else if root.path.exists() {
            files.extend(self.file(&root.path).filter(|file| file.root == index));
        }
        Ok(files)
    }

    /// The file at a path, if it is one of ours. Of several given paths that lead to it the first
    /// counts.
    pub(super) fn file(&self, path: &Path) -> Option<FileKey> {
        let root = self.0.iter().position(|root| root.leads_to(path))?;
        Some(FileKey { root, path: path.into() })
    }

    /// The given paths behind which anything may have changed when this path was created, renamed
    /// or removed: the folder itself, or the link of a ConfigMap.
    pub(super) fn behind(&self, path: &Path) -> impl Iterator<Item = usize> {
        let is_link = path.file_name() == Some(OsStr::new(CONFIG_MAP_LINK));
        self.indices().filter(move |index| {
            let folder = self.folder(*index);
            folder == Some(path) || (is_link && folder == path.parent())
        })
    }
}

impl Root {
    fn folder(&self) -> Option<&Path> {
        if self.is_folder { Some(&self.path) } else { self.path.parent() }
    }

    /// Folders are not descended into. Hidden files are those of editors and of kubelet.
    fn leads_to(&self, path: &Path) -> bool {
        if !self.is_folder {
            return self.path == path;
        }
        let extension = path.extension().and_then(OsStr::to_str);
        let is_hidden =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        path.parent() == Some(&self.path)
            && matches!(extension, Some("yaml" | "yml" | "json"))
            && !is_hidden
    }
}
