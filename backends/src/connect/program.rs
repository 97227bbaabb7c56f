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
    pins::{Held, Pins},
    seats,
    sizes::TableSizes,
    sys,
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
    /// Something is to be pinned that the object lacks.
    #[error("cannot hold the maps")]
    Maps(#[source] io::Error),
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

/// The programs with their maps, of which not all are pinned yet.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) programs: Programs,
    pub(super) maps: Held,
    extras: Extras,
}

impl Loaded {
    /// Loads all programs. Maps that are pinned are used, others are made.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses a map or a program, naming it.
    pub(super) fn load(pins: &Pins, sizes: &TableSizes, extras: Extras) -> Result<Self, LoadError> {
        // Newer kernels do not count maps against this limit; a kernel that does says so itself.
        let _ = sys::lift_memory_lock_limit();
        let seats = match (extras.sock_release, seats::count(pins)) {
            (false, _) => 0,
            // Seats of an earlier run stay as they are, for somebody may sit there.
            (true, Ok(count)) => count,
            (true, Err(error)) if error.kind() == io::ErrorKind::NotFound => sizes.seat_count(),
            (true, Err(error)) => return Err(LoadError::Seats(error)),
        };
        let mut object = sized(sizes)?;
        object.set_global("HAS_SET_RETVAL", &[u8::from(extras.set_retval)])?;
        object.set_global("SEAT_COUNT", &seats.to_ne_bytes())?;
        let linked = object.link(|map| pins.map(map, sizes))?;
        let wanted = |hook: &Hook| *hook != SOCK_RELEASE || extras.sock_release;
        let hooks: Vec<_> = HOOKS.into_iter().filter(wanted).collect();
        let programs = Programs(load_all(&linked, &hooks)?);
        let maps = Held::new(pins, sizes, linked.into()).map_err(LoadError::Maps)?;
        Ok(Self { programs, maps, extras })
    }

    /// Whether loading again would come to the same.
    ///
    /// # Errors
    ///
    /// Fails if something that is pinned cannot be opened.
    pub(super) fn is_current(&self, extras: Extras) -> io::Result<bool> {
        Ok(self.extras == extras && self.maps.fits()?)
    }
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
