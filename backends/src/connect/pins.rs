//! Where things are pinned: what survives the agent.
//!
//! ```text
//! <pin path>/links/<program>                     what is attached
//! <pin path>/tables-v1-<hash of sizes>/<MAP>     the tables
//! <pin path>/sockets-v1/{CONNECTED,PEERS,SEATS}  what sockets remember, with a version of its own
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use shunt_ebpf::{LAYOUT_VERSION, SOCKET_VERSION};

use super::{sizes::TableSizes, sys};

/// The maps that belong to sockets and outlive the tables.
pub(super) const SOCKET_MAPS: [&str; 3] = ["CONNECTED", "PEERS", "SEATS"];

/// The maps of a table directory.
pub(super) const TABLE_MAPS: [&str; 10] = [
    "FRONTENDS4",
    "FRONTENDS6",
    "NODEPORTS",
    "NODE_ADDRESSES",
    "LISTS",
    "ENDPOINTS",
    "SERVICES",
    "AFFINITY",
    "CONTROL",
    "EVENTS",
];

/// The pin directory.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The directory at this path.
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where links are.
    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Where what sockets remember is.
    pub(super) fn sockets(&self) -> PathBuf {
        self.root.join(format!("sockets-v{SOCKET_VERSION}"))
    }

    /// Where tables of these sizes are: other sizes or another layout are other maps, which are
    /// filled before the programs move to them.
    pub(super) fn tables(&self, sizes: &TableSizes) -> PathBuf {
        self.root.join(format!("tables-v{LAYOUT_VERSION}-{:08x}", sizes.hash()))
    }

    /// Where a map is; `None` if it is pinned nowhere.
    pub(super) fn map(&self, name: &str, sizes: &TableSizes) -> Option<PathBuf> {
        if TABLE_MAPS.contains(&name) {
            return Some(self.tables(sizes).join(name));
        }
        SOCKET_MAPS.contains(&name).then(|| self.sockets().join(name))
    }

    /// Every directory of tables or of what sockets remember, of whatever version.
    ///
    /// # Errors
    ///
    /// Fails if the pin directory cannot be read; its absence is no error.
    pub(super) fn all_map_directories(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("tables-v") || name.starts_with("sockets-v") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether there are tables, and none of these sizes.
    pub(super) fn has_only_other_tables(&self, sizes: &TableSizes) -> bool {
        let own = self.tables(sizes);
        let mut tables = self.all_map_directories().unwrap_or_default();
        tables.retain(|directory| *directory != self.sockets());
        !tables.is_empty() && !tables.contains(&own)
    }

    /// Removes the directories of other versions and sizes than those that are held.
    ///
    /// # Errors
    ///
    /// Fails if something cannot be removed.
    pub(super) fn remove_others(&self, held: &Held) -> io::Result<Vec<String>> {
        let mut removed = Vec::new();
        for directory in self.all_map_directories()? {
            if !held.0.iter().any(|(path, ..)| path.starts_with(&directory)) {
                remove_directory(&directory, &mut removed)?;
            }
        }
        Ok(removed)
    }
}

/// Maps that are pinned, or are to be, held open as well.
#[derive(Debug)]
pub(super) struct Held(Vec<(PathBuf, &'static str, OwnedFd)>);

impl Held {
    /// Those of the maps that have a place for tables of these sizes.
    ///
    /// # Errors
    ///
    /// Fails if there is a place for which there is no map.
    pub(super) fn new(
        pins: &Pins,
        sizes: &TableSizes,
        mut maps: BTreeMap<String, OwnedFd>,
    ) -> io::Result<Self> {
        let of = |directory: PathBuf| move |name| (directory.join(name), name);
        let tables = TABLE_MAPS.into_iter().map(of(pins.tables(sizes)));
        let sockets = SOCKET_MAPS.into_iter().map(of(pins.sockets()));
        let take = |(path, name): (PathBuf, &'static str)| {
            let map = maps.remove(name).ok_or_else(|| absent(name))?;
            Ok((path, name, map))
        };
        tables.chain(sockets).map(take).collect::<io::Result<_>>().map(Self)
    }

    /// Whether no other map is pinned in the place of one of these.
    ///
    /// # Errors
    ///
    /// Fails if something that is pinned cannot be opened.
    pub(super) fn fits(&self) -> io::Result<bool> {
        for (path, _, map) in &self.0 {
            if pinned(path)?.is_some_and(|id| sys::map_id(map).ok() != Some(id)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A map by its name.
    ///
    /// # Errors
    ///
    /// Fails if there is none of this name.
    pub(super) fn map(&self, name: &str) -> io::Result<OwnedFd> {
        let found = self.0.iter().find(|(_, known, _)| *known == name);
        let (_, _, fd) = found.ok_or_else(|| absent(name))?;
        fd.try_clone()
    }

    /// Pins what is not pinned, or no longer, in directories that it makes; returns the names.
    ///
    /// # Errors
    ///
    /// Fails at the first that cannot be pinned.
    pub(super) fn pin(&self, links: &Path) -> io::Result<Vec<&'static str>> {
        fs::create_dir_all(links)?;
        let mut newly = Vec::new();
        for (path, name, fd) in &self.0 {
            // What cannot be opened is in the way when this one is pinned, which says so.
            let pinned = pinned(path).unwrap_or(None);
            if pinned == Some(sys::map_id(fd)?) {
                continue;
            }
            if pinned.is_some() {
                fs::remove_file(path)?;
            }
            fs::create_dir_all(path.parent().unwrap_or(links))?;
            sys::object_pin(fd.as_fd(), path)?;
            newly.push(*name);
        }
        Ok(newly)
    }
}

/// By which number the kernel knows the map that is pinned here, if one is.
fn pinned(path: &Path) -> io::Result<Option<u32>> {
    match sys::object_get(path) {
        Ok(map) => sys::map_id(&map).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn absent(map: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no map {map}"))
}

/// Removes a directory of pins and says what was in it.
///
/// # Errors
///
/// Fails if something cannot be removed, after trying everything.
pub(super) fn remove_directory(directory: &Path, removed: &mut Vec<String>) -> io::Result<()> {
    let mut first = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path.display().to_string()),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) => Err(error),
        None => fs::remove_dir(directory),
    }
}
