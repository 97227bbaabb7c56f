//! A map of the object in the kernel.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya_obj::{EbpfSectionKind, Map};

use super::{
    super::sys::{self, MapSpec, RING_BUFFER},
    ObjectError,
};

/// Opens a map where it is pinned, or makes it and pins it.
///
/// # Errors
///
/// Fails if the kernel refuses, naming the map.
pub(super) fn obtain(
    name: &str,
    map: &Map,
    types: BorrowedFd<'_>,
    path: Option<&Path>,
) -> Result<OwnedFd, ObjectError> {
    let failed = |what| move |cause| ObjectError::Map { what, map: name.to_owned(), cause };
    match path.map(sys::object_get) {
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Some(pinned) => return pinned.map_err(failed("open the pinned")),
        None => {}
    }
    let made = sys::map_create(spec(name, map, types)).map_err(failed("create"))?;
    if !map.data().is_empty() {
        sys::map_fill(made.as_fd(), map.data()).map_err(failed("fill"))?;
    }
    // Only of a map that nobody will write does the verifier take the values for constants, and
    // leave out the branches that cannot be.
    if map.section_kind() == EbpfSectionKind::Rodata {
        sys::map_freeze(made.as_fd()).map_err(failed("freeze"))?;
    }
    if let Some(path) = path {
        sys::object_pin(made.as_fd(), path).map_err(failed("pin"))?;
    }
    Ok(made)
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
