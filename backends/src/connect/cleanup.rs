//! Removing every trace, and saying what was removed.

use std::{fs, io};

use shunt_core::backend::BackendError;

use super::{
    bpffs,
    hook::HOOKS,
    links,
    lock::Lock,
    own_mounts,
    pins::{Pins, remove_directory},
};

/// Detaches and unpins everything. Goes on after an error and then returns the first.
///
/// # Errors
///
/// Fails if an agent is running, naming it, or something cannot be removed.
pub(super) fn cleanup(pins: &Pins) -> Result<Vec<String>, BackendError> {
    let root = pins.root();
    let named = |what: &str| format!("{what} {}", root.display());
    let (mut removed, mut first) = (Vec::new(), None);
    if root.is_dir() {
        let lock = Lock::acquire(root)
            .map_err(|cause| BackendError::new(named("clean up pin directory"), cause))?;
        first = remove_pins(pins, &mut removed).err();
        // An open directory keeps its file system from being unmounted.
        drop(lock);
    }
    if let Err(cause) = own_mounts::unmount(&bpffs::parent_of(root), &mut removed) {
        let unmount = || BackendError::new(named("unmount what was mounted for"), cause);
        first.get_or_insert_with(unmount);
    }
    first.map_or(Ok(removed), Err)
}

/// The pin directory and all that is in it.
fn remove_pins(pins: &Pins, removed: &mut Vec<String>) -> Result<(), BackendError> {
    let root = pins.root();
    let named = |what: &str| format!("{what} {}", root.display());
    let mut first = None;
    let mut keep = |error: BackendError| {
        first.get_or_insert(error);
    };

    // What makes addresses goes before what turns them back into names.
    for hook in HOOKS.into_iter().rev() {
        match links::remove(&pins.links().join(hook.program), hook) {
            Ok(true) => removed.push(format!("link {}", hook.program)),
            Ok(false) => {}
            Err(cause) => keep(BackendError::new(format!("detach {}", hook.program), cause)),
        }
    }
    if let Err(cause) = remove_if_there(fs::remove_dir(pins.links())) {
        keep(BackendError::new(named("remove the links of"), cause));
    }
    match pins.all_map_directories() {
        Ok(directories) => {
            for directory in directories {
                if let Err(cause) = remove_directory(&directory, removed) {
                    let what = format!("remove {}", directory.display());
                    keep(BackendError::new(what, cause));
                }
            }
        }
        Err(cause) => keep(BackendError::new(named("read"), cause)),
    }
    match fs::remove_dir(root) {
        Ok(()) => removed.push(format!("directory {}", root.display())),
        Err(cause) => keep(BackendError::new(named("remove"), cause)),
    }
    first.map_or(Ok(()), Err)
}

fn remove_if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
