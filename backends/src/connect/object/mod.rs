//! The object in the source tree: what the compiler made of the programs, brought into the kernel.
//!
//! aya-obj reads the object and links it. The loader of aya 0.14 would do all of this, and before it
//! read every type of the running kernel, 20 MB for a moment; the programs ask for none.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya_obj::{
    EbpfSectionKind, Map, ParseError,
    btf::{BtfError, BtfFeatures},
    generated::bpf_insn,
    relocation::EbpfRelocationError,
};

use super::{
    hook::Hook,
    sys::{self, MapSpec, ProgramSpec, Refused},
};

/// The object, compiled by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/object/shunt-ebpf.o"
));

/// `BPF_MAP_TYPE_RINGBUF`.
const RING_BUFFER: u32 = 27;

/// The kinds of types that Linux 5.10 knows: functions, global ones, and what lies in a section.
/// aya-obj replaces the others (empty sections, floats, tags, 64-bit enums) by older ones.
const KINDS: BtfFeatures = BtfFeatures::new(true, true, true, false, false, false, false, false);

/// The object as it was read.
pub(super) struct Object(aya_obj::Object);

/// The object with its maps and types in the kernel.
pub(super) struct Linked {
    object: aya_obj::Object,
    types: OwnedFd,
    /// The instructions know them by their descriptors, which must stay open.
    _maps: BTreeMap<String, OwnedFd>,
}

/// The object cannot be brought into the kernel.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectError {
    /// It is not understood.
    #[error("cannot read the object")]
    Read(#[source] Box<ParseError>),
    /// Its types are not understood.
    #[error("cannot read the types of the object")]
    ReadTypes(#[source] Box<BtfError>),
    /// It lacks a global variable of this name and size.
    #[error("cannot set the global {name}")]
    Global {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        #[source]
        cause: Box<ParseError>,
    },
    /// The kernel does not take its types.
    #[error("the kernel refuses the types of the object")]
    Types(#[source] Refused),
    /// It lacks a map.
    #[error("the object has no map {0}")]
    NoMap(&'static str),
    /// A map could not be had.
    #[error("cannot {what} map {map}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// Its name.
        map: String,
        /// What the kernel says.
        #[source]
        cause: io::Error,
    },
    /// Programs and maps do not find each other.
    #[error("cannot link the programs")]
    Link(#[source] Box<EbpfRelocationError>),
    /// It lacks a program.
    #[error("the object has no program {0}")]
    NoProgram(&'static str),
    /// The kernel does not take a program; the cause has the verifier's words.
    #[error("the kernel refuses program {program}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel says.
        #[source]
        cause: Refused,
    },
}

impl Object {
    /// Reads it, without the kernel.
    ///
    /// # Errors
    ///
    /// Fails if it is not understood.
    pub(super) fn read() -> Result<Self, ObjectError> {
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
    pub(super) fn set_global(
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
    pub(super) fn set_size(&mut self, map: &'static str, size: u32) -> Result<(), ObjectError> {
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
    pub(super) fn load_types(&self) -> Result<OwnedFd, ObjectError> {
        let types = self.0.btf.as_ref().map(|types| types.to_bytes()).unwrap_or_default();
        sys::load_btf(&types).map_err(ObjectError::Types)
    }

    /// Makes a map and pins it, unless one is pinned there.
    ///
    /// # Errors
    ///
    /// Fails if there is no such map, or the kernel refuses it.
    pub(super) fn pin_map(
        &self,
        name: &'static str,
        types: &OwnedFd,
        path: &Path,
    ) -> Result<(), ObjectError> {
        let map = self.0.maps.get(name).ok_or(ObjectError::NoMap(name))?;
        obtain(name, map, types.as_fd(), Some(path)).map(drop)
    }

    /// Brings types and maps into the kernel and links the programs to them. Maps that are pinned
    /// at their `path` already are used, others are made and pinned there; without a path they are
    /// just made.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses, naming the map.
    pub(super) fn link<P: AsRef<Path>>(
        mut self,
        path: impl Fn(&str) -> Option<P>,
    ) -> Result<Linked, ObjectError> {
        let types = self.load_types()?;
        let specs = std::mem::take(&mut self.0.maps);
        let mut maps = BTreeMap::new();
        for (name, map) in &specs {
            let path = path(name);
            let path = path.as_ref().map(AsRef::as_ref);
            maps.insert(name.clone(), obtain(name, map, types.as_fd(), path)?);
        }
        let mut object = self.0;
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        let by_name = specs.iter().filter_map(|(name, map)| {
            maps.get(name).map(|fd| (name.as_str(), fd.as_raw_fd(), map))
        });
        object
            .relocate_maps(by_name, &sections)
            .and_then(|()| object.relocate_calls(&sections))
            .map_err(|cause| ObjectError::Link(Box::new(cause)))?;
        Ok(Linked { object, types, _maps: maps })
    }
}

impl Linked {
    /// Brings the program for a hook into the kernel.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or the kernel refuses it.
    pub(super) fn load(&self, hook: Hook) -> Result<OwnedFd, ObjectError> {
        let name = hook.program;
        let absent = || ObjectError::NoProgram(name);
        let program = self.object.programs.get(name).ok_or_else(absent)?;
        let main = self.object.functions.get(&program.function_key()).ok_or_else(absent)?;
        let code: Vec<u64> = main.instructions.iter().map(instruction).collect();
        sys::load_program(&ProgramSpec {
            kind: hook.kind as u32,
            attach_type: hook.attach_type,
            name,
            license: &program.license,
            code: &code,
            types: self.types.as_fd(),
            functions: &main.func_info.func_info_bytes(),
            lines: &main.line_info.line_info_bytes(),
        })
        .map_err(|cause| ObjectError::Program { program: name, cause })
    }
}

fn instruction(instruction: &bpf_insn) -> u64 {
    let bpf_insn { code, off, imm, .. } = *instruction;
    sys::instruction(code, instruction.dst_reg(), instruction.src_reg(), off, imm)
}

/// Opens a map where it is pinned, or makes it and pins it.
fn obtain(
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

fn spec(name: &str, map: &Map, types: BorrowedFd<'_>) -> MapSpec {
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
