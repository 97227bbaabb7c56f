//! The programs: from the object in the source tree to loaded ones.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{EbpfLoader, programs::CgroupSockAddr};

use super::{
    hook::{HOOKS, Hook},
    pins::{Pins, SOCKET_MAPS, TABLE_MAPS},
    sizes::TableSizes,
    sys,
    uncharged::uncharged,
};

/// The object, compiled by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/object/shunt-ebpf.o"
));

/// The loaded programs, each with its id.
#[derive(Debug)]
pub(super) struct Programs(BTreeMap<&'static str, (OwnedFd, u32)>);

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The maps could not be made, or the object is not understood.
    #[error("cannot create the maps")]
    Object(#[source] Box<aya::EbpfError>),
    /// The object lacks a program.
    #[error("the object has no program {0}")]
    Absent(&'static str),
    /// The kernel refused a program; the cause has the verifier's words.
    #[error("the kernel refuses program {program}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel says.
        #[source]
        cause: Box<aya::programs::ProgramError>,
    },
    /// A descriptor could not be had.
    #[error("cannot keep program {program}")]
    Descriptor {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Makes and pins the maps of what sockets remember, unless an earlier run did, so that nobody is
/// charged for what is in them.
///
/// # Errors
///
/// Fails if the kernel refuses a map.
pub(super) fn make_socket_maps(pins: &Pins, sizes: &TableSizes) -> Result<(), LoadError> {
    let paths = SOCKET_MAPS.map(|map| (map, pins.sockets().join(map)));
    if paths.iter().all(|(_, path)| path.exists()) {
        return Ok(());
    }
    let _ = sys::lift_memory_lock_limit();
    let mut loader = EbpfLoader::new();
    // The loader makes every map of the object; of the others the smallest will do, for they go
    // with the loaded object at the end of this function.
    for (map, _) in sizes.by_map() {
        loader.map_max_entries(map, 1);
    }
    for (map, path) in paths {
        loader.map_pin_path(map, path);
    }
    let loaded = uncharged(|| loader.load(OBJECT));
    loaded.map(drop).map_err(|cause| LoadError::Object(Box::new(cause)))
}

impl Programs {
    /// Loads all programs. Maps that are pinned already are used, others are made and pinned, or
    /// without `pins` just made: for a trial.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses a map or a program, naming it.
    pub(super) fn load(
        pins: Option<&Pins>,
        sizes: &TableSizes,
        has_set_retval: bool,
    ) -> Result<Self, LoadError> {
        // Newer kernels do not count maps against this limit; a kernel that does says so itself.
        let _ = sys::lift_memory_lock_limit();
        let mut loader = EbpfLoader::new();
        // The programs ask for none of the kernel's types: reading them all would cost 16 MB for a
        // moment, which is more than the agent needs ever after.
        loader.btf(None);
        let flag = u8::from(has_set_retval);
        loader.override_global("HAS_SET_RETVAL", &flag, true);
        for (map, size) in sizes.by_map() {
            loader.map_max_entries(map, size);
        }
        if let Some(pins) = pins {
            for map in TABLE_MAPS {
                loader.map_pin_path(map, pins.tables(sizes).join(map));
            }
            for map in SOCKET_MAPS {
                loader.map_pin_path(map, pins.sockets().join(map));
            }
        }
        let mut object = loader.load(OBJECT).map_err(|cause| LoadError::Object(Box::new(cause)))?;
        let mut programs = BTreeMap::new();
        for hook in HOOKS {
            programs.insert(hook.program, load(&mut object, hook)?);
        }
        Ok(Self(programs))
    }

    /// The program of a hook and its id.
    pub(super) fn get(&self, hook: Hook) -> Option<(&OwnedFd, u32)> {
        self.0.get(hook.program).map(|(fd, id)| (fd, *id))
    }
}

fn load(object: &mut aya::Ebpf, hook: Hook) -> Result<(OwnedFd, u32), LoadError> {
    let program = hook.program;
    let refused = |cause| LoadError::Program { program, cause: Box::new(cause) };
    let found = object.program_mut(program).ok_or(LoadError::Absent(program))?;
    let loaded: &mut CgroupSockAddr = found.try_into().map_err(refused)?;
    loaded.load().map_err(refused)?;
    let fd = loaded.fd().map_err(refused)?;
    let keep = |cause| LoadError::Descriptor { program, cause };
    let fd = fd.as_fd().try_clone_to_owned().map_err(keep)?;
    let id = sys::program_id(fd.as_fd()).map_err(keep)?;
    Ok((fd, id))
}
