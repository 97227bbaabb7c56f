//! The programs: from the object in the source tree to loaded ones.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    EbpfLoader,
    programs::{Program, ProgramError},
};

use super::{
    hook::{HOOKS, Hook, SOCK_RELEASE},
    pins::{Pins, SOCKET_MAPS, TABLE_MAPS},
    seats,
    sizes::TableSizes,
    sys,
    uncharged::uncharged,
};

/// The object, compiled by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/object/shunt-ebpf.o"
));

/// What not every kernel has that the programs can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extras {
    /// `bpf_set_retval`: calls can be refused.
    pub(super) set_retval: bool,
    /// The hook `sock_release`: connected UDP sockets can have seats.
    pub(super) sock_release: bool,
}

/// The loaded programs in the order of [`HOOKS`], each with its id.
#[derive(Debug)]
pub(super) struct Programs(Vec<(Hook, OwnedFd, u32)>);

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The maps could not be made, or the object is not understood.
    #[error("cannot create the maps")]
    Object(#[source] Box<aya::EbpfError>),
    /// How many seats there are cannot be read.
    #[error("cannot read the size of map SEATS")]
    Seats(#[source] io::Error),
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
        cause: Box<ProgramError>,
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
    for (map, size) in sizes.by_map() {
        loader.map_max_entries(map, if SOCKET_MAPS.contains(&map) { size } else { 1 });
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
        extras: Extras,
    ) -> Result<Self, LoadError> {
        // Newer kernels do not count maps against this limit; a kernel that does says so itself.
        let _ = sys::lift_memory_lock_limit();
        let mut loader = EbpfLoader::new();
        // The programs ask for none of the kernel's types. aya 0.14 has read them all by now, which
        // is 20 MB: this gives them back.
        loader.btf(None);
        let flag = u8::from(extras.set_retval);
        loader.override_global("HAS_SET_RETVAL", &flag, true);
        let seats = match (extras.sock_release, pins) {
            (false, _) => 0,
            (true, None) => sizes.seat_count(),
            // Seats of an earlier run stay as they are, for somebody may sit there.
            (true, Some(pins)) => seats::count(pins).map_err(LoadError::Seats)?,
        };
        loader.override_global("SEAT_COUNT", &seats, true);
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
        let wanted = |hook: &Hook| *hook != SOCK_RELEASE || extras.sock_release;
        let load = |hook| load(&mut object, hook);
        HOOKS.into_iter().filter(wanted).map(load).collect::<Result<_, _>>().map(Self)
    }

    /// The programs that were loaded, each with its id, in the order of [`HOOKS`].
    pub(super) fn all(&self) -> impl Iterator<Item = (Hook, &OwnedFd, u32)> {
        self.0.iter().map(|(hook, fd, id)| (*hook, fd, *id))
    }
}

fn load(object: &mut aya::Ebpf, hook: Hook) -> Result<(Hook, OwnedFd, u32), LoadError> {
    let program = hook.program;
    let refused = |cause| LoadError::Program { program, cause: Box::new(cause) };
    let found = object.program_mut(program).ok_or(LoadError::Absent(program))?;
    let loaded = match found {
        Program::CgroupSockAddr(found) => found.load(),
        Program::CgroupSock(found) => found.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    loaded.map_err(refused)?;
    let fd = found.fd().map_err(refused)?;
    let keep = |cause| LoadError::Descriptor { program, cause };
    let fd = fd.as_fd().try_clone_to_owned().map_err(keep)?;
    let id = sys::program_id(fd.as_fd()).map_err(keep)?;
    Ok((hook, fd, id))
}
