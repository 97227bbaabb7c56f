//! The maps of the object in the kernel.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya_obj::{EbpfSectionKind, Map};

use super::{
    super::{
        pins::SOCKET_MAPS,
        sys::{self, MapSpec, RING_BUFFER},
        uncharged::uncharged,
    },
    ObjectError,
};

/// The maps by their names: those that are pinned at their `path`, and the others made, pinned
/// nowhere yet. Maps of sockets are made so that nobody is charged for what is in them.
///
/// # Errors
///
/// Fails if the kernel refuses, naming the map.
pub(super) fn obtain(
    maps: &HashMap<String, Map>,
    types: BorrowedFd<'_>,
    path: impl Fn(&str) -> Option<PathBuf>,
) -> Result<BTreeMap<String, OwnedFd>, ObjectError> {
    let mut obtained = BTreeMap::new();
    let (mut of_sockets, mut others) = (Vec::new(), Vec::new());
    for (name, map) in maps {
        match path(name).map(|path| open(name, &path)).transpose()?.flatten() {
            Some(pinned) => _ = obtained.insert(name.clone(), pinned),
            None if SOCKET_MAPS.contains(&name.as_str()) => of_sockets.push((name, map)),
            None => others.push((name, map)),
        }
    }
    let mut make_all = |absent: Vec<(&String, &Map)>| {
        absent.into_iter().try_for_each(|(name, map)| {
            obtained.insert(name.clone(), make(name, map, types)?);
            Ok(())
        })
    };
    if !of_sockets.is_empty() {
        uncharged(|| make_all(of_sockets))?;
    }
    make_all(others)?;
    Ok(obtained)
}

/// Opens a map where it is pinned; `None` where it is not.
fn open(name: &str, path: &Path) -> Result<Option<OwnedFd>, ObjectError> {
    match sys::object_get(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        pinned => pinned.map(Some).map_err(failed("open the pinned", name)),
    }
}

fn make(name: &str, map: &Map, types: BorrowedFd<'_>) -> Result<OwnedFd, ObjectError> {
    let made = sys::map_create(spec(name, map, types)).map_err(failed("create", name))?;
    if !map.data().is_empty() {
        sys::map_fill(made.as_fd(), map.data()).map_err(failed("fill", name))?;
    }
    // Only of a map that nobody will write does the verifier take the values for constants, and
    // leave out the branches that cannot be.
    if map.section_kind() == EbpfSectionKind::Rodata {
        sys::map_freeze(made.as_fd()).map_err(failed("freeze", name))?;
    }
    Ok(made)
}

fn failed(what: &'static str, map: &str) -> impl FnOnce(io::Error) -> ObjectError {
    move |cause| ObjectError::Map { what, map: map.to_owned(), cause }
}

/// What the kernel is told of a map.
pub(super) fn spec(name: &str, map: &Map, types: BorrowedFd<'_>) -> MapSpec {
    let bare = MapSpec {
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
        name: sys::object_name(name),
        ..MapSpec::default()
    };
    match map {
        // The kernel wants neither sizes nor types of what has no elements.
        Map::Btf(_) if bare.kind == RING_BUFFER => MapSpec { key_size: 0, value_size: 0, ..bare },
        Map::Btf(map) => MapSpec {
            btf_fd: types.as_raw_fd() as u32,
            btf_key_type: map.def.btf_key_type_id,
            btf_value_type: map.def.btf_value_type_id,
            ..bare
        },
        Map::Legacy(_) => bare,
    }
}
