//! The object as it was read, and on its way to maps and links.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use aya_obj::btf::BtfFeatures;

use super::{super::sys, ObjectError, linked::Linked, map::obtain};

/// The object, compiled by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/object/shunt-ebpf.o"
));

/// The kinds of types that Linux 5.10 knows: functions, global ones, and what lies in a section.
/// aya-obj replaces the others (empty sections, floats, tags, 64-bit enums) by older ones.
const KINDS: BtfFeatures = BtfFeatures::new(true, true, true, false, false, false, false, false);

/// The object as it was read.
pub(in super::super) struct Object(pub(super) aya_obj::Object);

impl Object {
    /// Reads it, without the kernel.
    ///
    /// # Errors
    ///
    /// Fails if it is not understood.
    pub(in super::super) fn read() -> Result<Self, ObjectError> {
        let mut object =
            aya_obj::Object::parse(OBJECT).map_err(|cause| ObjectError::Read(Box::new(cause)))?;
        object
            .fixup_and_sanitize_btf(&KINDS)
            .map_err(|cause| ObjectError::ReadTypes(Box::new(cause)))?;
        Ok(Self(object))
    }

    /// Sets a global variable of the programs.
    ///
    /// # Errors
    ///
    /// Fails if there is none of this name and size.
    pub(in super::super) fn set_global(
        &mut self,
        name: &'static str,
        value: &[u8],
    ) -> Result<(), ObjectError> {
        self.0
            .patch_map_data(HashMap::from([(name, (value, true))]))
            .map_err(|cause| ObjectError::Global { name, cause: Box::new(cause) })
    }

    /// Sets how many entries a map is made with.
    ///
    /// # Errors
    ///
    /// Fails if there is no such map.
    pub(in super::super) fn set_size(
        &mut self,
        map: &'static str,
        size: u32,
    ) -> Result<(), ObjectError> {
        let found = self.0.maps.get_mut(map).ok_or(ObjectError::NoMap(map))?;
        found.set_max_entries(size);
        Ok(())
    }

    /// Brings the types into the kernel. Maps with locks, and those of sockets, are not to be had
    /// without.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses them.
    pub(in super::super) fn load_types(&self) -> Result<OwnedFd, ObjectError> {
        let types = self.0.btf.as_ref().map(|types| types.to_bytes()).unwrap_or_default();
        sys::load_btf(&types).map_err(ObjectError::Types)
    }

    /// Brings types and maps into the kernel and links the programs to them. A map that is pinned at
    /// its `path` is used, others are made and pinned nowhere yet.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses, naming the map.
    pub(in super::super) fn link(
        mut self,
        path: impl Fn(&str) -> Option<PathBuf>,
    ) -> Result<Linked, ObjectError> {
        let types = self.load_types()?;
        let specs = std::mem::take(&mut self.0.maps);
        let maps = obtain(&specs, types.as_fd(), path)?;
        let mut object = self.0;
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        let by_name = specs.iter().filter_map(|(name, map)| {
            maps.get(name).map(|fd| (name.as_str(), fd.as_raw_fd(), map))
        });
        object
            .relocate_maps(by_name, &sections)
            .and_then(|()| object.relocate_calls(&sections))
            .map_err(|cause| ObjectError::Link(Box::new(cause)))?;
        Ok(Linked { object, types, maps })
    }
}
