//! Notifications of the kernel about files, and what is to be read because of them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    error::{Problem, StaticError},
    paths::{FileKey, Roots},
};

/// How long a file has to be gone before its objects are. Editors and version control put the old
/// file away before they write the new one: that must not stop a Service for the time between.
const DEPARTURE: Duration = Duration::from_secs(1);

/// What to look at, after some notifications.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Files whose content may be another one, or that are gone.
    pub(super) files: BTreeSet<FileKey>,
    /// Files that may be readable now if they were not before.
    pub(super) permitted: BTreeSet<FileKey>,
    /// Files that are not there; if they still are not there after a moment they will be in
    /// [`Self::files`].
    pub(super) departing: BTreeSet<FileKey>,
    /// Given paths behind which files may have come or gone.
    pub(super) listings: BTreeSet<usize>,
    /// Given paths behind which every file may be another one.
    pub(super) roots: BTreeSet<usize>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.permitted.is_empty()
            && self.departing.is_empty()
            && self.listings.is_empty()
            && self.roots.is_empty()
    }
}

/// Follows the folders of manifests.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<notify::Result<Event>>,
    /// Files that were written to and not closed since.
    writing: HashSet<FileKey>,
    /// Files that were seen to be gone, and when that will be believed.
    departing: HashMap<FileKey, Instant>,
    /// What was told while files were being read.
    pending: Batch,
}

impl Watch {
    /// Watches the folder of every path, and that folder's own parent: a folder that is replaced
    /// as a whole shows only there.
    pub(super) fn open(roots: &Roots) -> Result<Self, StaticError> {
        let (sender, events) = mpsc::unbounded_channel();
        // The receiver is gone only when the source is.
        let forward = move |event| drop(sender.send(event));
        let failed = |path: &Path, cause| StaticError::Watch { path: path.to_path_buf(), cause };
        let watcher = notify::recommended_watcher(forward)
            .map_err(|cause| failed(roots.folder(0).unwrap_or_else(|| Path::new("/")), cause))?;
        let (writing, departing) = (HashSet::new(), HashMap::new());
        let mut watch = Self { watcher, events, writing, departing, pending: Batch::default() };
        for folder in roots.indices().filter_map(|index| roots.folder(index)) {
            watch.watch(folder).map_err(|cause| failed(folder, cause))?;
            if let Some(Err(error)) = folder.parent().map(|parent| watch.watch(parent)) {
                tracing::debug!(folder = %folder.display(), %error, "its parent is not watched");
            }
        }
        Ok(watch)
    }

    /// Waits for something to look at, and takes all that is there already.
    pub(super) async fn next(&mut self, roots: &Roots) -> Batch {
        while self.pending.is_empty() {
            let departure = self.departing.values().min().copied();
            let departed = async {
                match departure {
                    Some(moment) => sleep_until(moment).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The thread of the watcher lives as long as the watcher.
                Some(event) = self.events.recv() => self.note(roots, event),
                () = departed => {
                    let gone = self.departing.extract_if(|_, moment| Some(*moment) <= departure);
                    self.pending.files.extend(gone.map(|(file, _)| file));
                }
            }
        }
        self.drain(roots);
        std::mem::take(&mut self.pending)
    }

    /// Whether a file is being written to. It will be closed, and that will be told.
    pub(super) fn is_being_written(&mut self, roots: &Roots, file: &FileKey) -> bool {
        self.drain(roots);
        self.writing.contains(file)
    }

    /// Watches the folder of a path anew, after it may have become another one.
    pub(super) fn renew(&mut self, roots: &Roots, index: usize) -> Result<(), Problem> {
        let Some(folder) = roots.folder(index) else { return Ok(()) };
        // Not watched is what it is if it was removed.
        let _ = self.watcher.unwatch(folder);
        match self.watch(folder) {
            // Its parent will tell when it is there again.
            Err(_) if !folder.exists() => Ok(()),
            watched => {
                watched.map_err(|cause| Problem::Watch { path: PathBuf::from(folder), cause })
            }
        }
    }

    fn watch(&mut self, folder: &Path) -> notify::Result<()> {
        self.watcher.watch(folder, RecursiveMode::NonRecursive)
    }

    fn drain(&mut self, roots: &Roots) {
        while let Ok(event) = self.events.try_recv() {
            self.note(roots, event);
        }
    }

    fn note(&mut self, roots: &Roots, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            lost => {
                tracing::info!(?lost, "notifications of files were lost: reading all anew");
                self.writing.clear();
                self.pending.roots.extend(roots.indices());
                return;
            }
        };
        for path in &event.paths {
            self.note_path(roots, event.kind, path);
        }
    }

    fn note_path(&mut self, roots: &Roots, kind: EventKind, path: &Path) {
        let batch = &mut self.pending;
        let file = roots.file(path);
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => self.writing.extend(file),
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                self.settled(file);
            }
            // A file made by a writer will be closed; a link has its content at once.
            EventKind::Create(_) => {
                batch.roots.extend(roots.behind(path));
                self.settled(file.filter(|file| is_link(file)));
            }
            EventKind::Modify(ModifyKind::Name(mode)) => {
                batch.roots.extend(roots.behind(path));
                // Listed at once, so that a file that was only renamed is never gone.
                let from = file.as_ref().filter(|_| mode == RenameMode::From);
                batch.listings.extend(from.map(FileKey::root));
                self.settled(file);
            }
            EventKind::Remove(_) => {
                batch.roots.extend(roots.behind(path));
                self.settled(file);
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => {
                batch.permitted.extend(file);
                batch.listings.extend(roots.indices().filter(|i| roots.folder(*i) == Some(path)));
            }
            _ => (),
        }
    }

    fn settled(&mut self, file: Option<FileKey>) {
        let Some(file) = file else { return };
        self.writing.remove(&file);
        if file.exists() {
            self.departing.remove(&file);
            self.pending.files.insert(file);
        } else {
            self.departing.entry(file.clone()).or_insert_with(|| Instant::now() + DEPARTURE);
            self.pending.departing.insert(file);
        }
    }
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}
