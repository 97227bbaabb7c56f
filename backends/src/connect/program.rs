//! The programs: from the object in the source tree to loaded ones.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    panic,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    hook::{HOOKS, Hook, SOCK_RELEASE},
    object::{Linked, Object, ObjectError},
    pins::{Pins, SOCKET_MAPS},
    seats,
    sizes::TableSizes,
    sys,
    uncharged::uncharged,
};

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
    /// Maps or programs could not be brought into the kernel.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// How many seats there are cannot be read.
    #[error("cannot read the size of map SEATS")]
    Seats(#[source] io::Error),
    /// The kernel does not say by which number it knows a program.
    #[error("cannot read the id of program {program}")]
    Id {
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
    let object = sized(sizes)?;
    let types = object.load_types()?;
    uncharged(|| paths.iter().try_for_each(|(map, path)| object.pin_map(map, &types, path)))?;
    Ok(())
}

/// The object with maps of these sizes.
pub(super) fn sized(sizes: &TableSizes) -> Result<Object, ObjectError> {
    let mut object = Object::read()?;
    for (map, size) in sizes.by_map() {
        object.set_size(map, size)?;
    }
    Ok(object)
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
        let seats = match (extras.sock_release, pins) {
            (false, _) => 0,
            (true, None) => sizes.seat_count(),
            // Seats of an earlier run stay as they are, for somebody may sit there.
            (true, Some(pins)) => seats::count(pins).map_err(LoadError::Seats)?,
        };
        let mut object = sized(sizes)?;
        object.set_global("HAS_SET_RETVAL", &[u8::from(extras.set_retval)])?;
        object.set_global("SEAT_COUNT", &seats.to_ne_bytes())?;
        let linked = object.link(|map| pins.and_then(|pins| pins.map(map, sizes)))?;
        let wanted = |hook: &Hook| *hook != SOCK_RELEASE || extras.sock_release;
        let hooks: Vec<_> = HOOKS.into_iter().filter(wanted).collect();
        load_all(&linked, &hooks).map(Self)
    }

    /// The programs that were loaded, each with its id, in the order of [`HOOKS`].
    pub(super) fn all(&self) -> impl Iterator<Item = (Hook, &OwnedFd, u32)> {
        self.0.iter().map(|(hook, fd, id)| (*hook, fd, *id))
    }
}

/// Loads programs, on as many threads as there are processors: the verifier takes some ten
/// milliseconds for one, and nobody is served before the last.
fn load_all(linked: &Linked, hooks: &[Hook]) -> Result<Vec<(Hook, OwnedFd, u32)>, LoadError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut loaded = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(&hook) = hooks.get(place) else { return Ok::<_, LoadError>(loaded) };
            loaded.push((place, load(linked, hook)?));
        }
    };
    let others = thread::available_parallelism().map_or(0, |all| all.get() - 1).min(hooks.len());
    let mut loaded = thread::scope(|scope| {
        let start = |_| thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, work);
        // Without threads this one does it all.
        let others: Vec<_> = (0..others).filter_map(|number| start(number).ok()).collect();
        let mut loaded = work()?;
        for other in others {
            loaded.extend(other.join().unwrap_or_else(|panic| panic::resume_unwind(panic))?);
        }
        Ok::<_, LoadError>(loaded)
    })?;
    loaded.sort_unstable_by_key(|(place, _)| *place);
    Ok(loaded.into_iter().map(|(_, program)| program).collect())
}

fn load(linked: &Linked, hook: Hook) -> Result<(Hook, OwnedFd, u32), LoadError> {
    let fd = linked.load(hook)?;
    let failed = |cause| LoadError::Id { program: hook.program, cause };
    let id = sys::program_id(fd.as_fd()).map_err(failed)?;
    Ok((hook, fd, id))
}
