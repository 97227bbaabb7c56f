//! Reads files and follows them.

use std::{
    collections::{BTreeSet, HashSet},
    error::Error,
    path::PathBuf,
};

use async_trait::async_trait;
use shunt_core::{
    ServiceSource, Update,
    source::{Completeness, SourceError, UpdateSender},
};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    claims::{Claims, Outcome},
    error::{Problem, ReadError, StaticError},
    manifest::Reading,
    paths::{FileKey, Roots},
    watch::{Batch, Watch},
};

/// Services from files and folders.
#[derive(Debug)]
pub struct StaticSource {
    roots: Roots,
    watch: Watch,
    claims: Claims,
    /// Given paths that could not be listed when they were last looked at.
    unlisted: BTreeSet<usize>,
    /// Kinds of object that were told to be ignored.
    told: HashSet<String>,
}

impl StaticSource {
    /// A source of the manifests in files and folders at `paths`. Watches from now on, and reads
    /// when it runs.
    ///
    /// # Errors
    ///
    /// Fails if a path does not exist or may not be read, or cannot be watched.
    pub fn open(paths: &[PathBuf]) -> Result<Self, StaticError> {
        let roots = Roots::open(paths)?;
        let watch = Watch::open(&roots)?;
        let (claims, unlisted, told) = (Claims::default(), BTreeSet::new(), HashSet::new());
        Ok(Self { roots, watch, claims, unlisted, told })
    }

    /// Returns when nobody listens any more.
    async fn follow(&mut self, updates: &UpdateSender) -> Option<()> {
        for file in self.list(self.roots.indices()) {
            let outcome = self.take_up(BTreeSet::from([file])).await;
            self.tell(updates, outcome).await?;
        }
        let mut is_complete = self.is_whole();
        let completeness = if is_complete { Completeness::Complete } else { Completeness::Partial };
        send(updates, Update::Synced(completeness)).await?;
        loop {
            let batch = self.watch.next(&self.roots).await;
            let files = self.resolve(batch);
            let outcome = self.take_up(files).await;
            self.tell(updates, outcome).await?;
            if !is_complete && self.is_whole() {
                is_complete = self.list_again(updates).await?;
            }
        }
    }

    /// Says everything once more, after a start at which something could not be read. Returns
    /// whether it could be read now.
    async fn list_again(&mut self, updates: &UpdateSender) -> Option<bool> {
        let before = std::mem::take(&mut self.claims);
        let files = self.list(self.roots.indices());
        let outcome = self.take_up(files).await;
        if !self.is_whole() {
            self.claims = before;
            return Some(false);
        }
        send(updates, Update::Reset).await?;
        if !updates.send_all(outcome.into_updates()).await {
            return None;
        }
        send(updates, Update::Synced(Completeness::Complete)).await?;
        Some(true)
    }

    fn is_whole(&self) -> bool {
        self.unlisted.is_empty() && self.claims.is_whole()
    }

    /// The files behind some of the given paths.
    fn list(&mut self, roots: impl IntoIterator<Item = usize>) -> BTreeSet<FileKey> {
        let mut files = BTreeSet::new();
        for root in roots {
            match self.roots.scan(root) {
                Ok(found) => {
                    self.unlisted.remove(&root);
                    files.extend(found);
                }
                Err(cause) => {
                    self.unlisted.insert(root);
                    let folder = self.roots.folder(root).map(PathBuf::from).unwrap_or_default();
                    report(&Problem::Folder { folder, cause });
                    files.extend(self.claims.files().filter(|file| file.root() == root).cloned());
                }
            }
        }
        files
    }

    /// From notifications to the files that have to be read.
    fn resolve(&mut self, batch: Batch) -> BTreeSet<FileKey> {
        let mut files = batch.files;
        for file in &batch.departing {
            self.claims.depart(file);
        }
        files.extend(batch.permitted.into_iter().filter(|file| self.claims.is_broken(file)));
        for &root in &batch.roots {
            if let Err(problem) = self.watch.renew(&self.roots, root) {
                report(&problem);
            }
            files.extend(self.claims.files().filter(|file| file.root() == root).cloned());
        }
        let found = self.list(batch.roots.union(&batch.listings).copied());
        let is_wanted =
            |file: &FileKey| batch.roots.contains(&file.root()) || !self.claims.knows(file);
        files.extend(found.into_iter().filter(is_wanted));
        files
    }

    /// Reads files and finds out what follows.
    async fn take_up(&mut self, mut files: BTreeSet<FileKey>) -> Outcome {
        let mut outcome = Outcome::default();
        // What is gone goes first: its objects may be in another file now.
        for file in files.extract_if(.., |file| !file.exists()) {
            self.claims.remove(&file, &mut outcome);
        }
        files.append(&mut outcome.wanted);
        while let Some(file) = files.pop_first() {
            self.take_up_file(&file, &mut outcome).await;
            files.append(&mut outcome.wanted);
        }
        outcome
    }

    async fn take_up_file(&mut self, file: &FileKey, outcome: &mut Outcome) {
        let path = file.to_path_buf();
        let reading = spawn_blocking(move || Reading::of(&path)).await;
        let reading = reading.unwrap_or_else(|panic| Err(ReadError::Panic(panic)));
        // Someone may have begun to write while it was being read: the close will be told.
        if self.watch.is_being_written(&self.roots, file) {
            if !self.claims.knows(file) {
                self.claims.fail(file);
            }
            return;
        }
        match reading {
            Ok(Some(reading)) => {
                for kind in &reading.unknown {
                    if self.told.insert(kind.clone()) {
                        tracing::info!(%file, "objects of kind {kind} are ignored");
                    }
                }
                self.claims.take(file, reading, outcome);
            }
            Ok(None) => self.claims.remove(file, outcome),
            Err(cause) => {
                self.claims.fail(file);
                outcome.problems.push(Problem::File { file: file.to_path_buf(), cause });
            }
        }
    }

    /// Logs what is wrong and sends what changed.
    async fn tell(&self, updates: &UpdateSender, outcome: Outcome) -> Option<()> {
        for problem in &outcome.problems {
            report(problem);
        }
        for warning in &outcome.warnings {
            tracing::warn!("{warning}");
        }
        updates.send_all(outcome.into_updates()).await.then_some(())
    }
}

#[async_trait]
impl ServiceSource for StaticSource {
    async fn run(
        mut self: Box<Self>,
        updates: UpdateSender,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        tokio::select! {
            () = shutdown.cancelled() => (),
            _ = self.follow(&updates) => (),
        }
        Ok(())
    }
}

/// `None` if nobody listens any more.
async fn send(updates: &UpdateSender, update: Update) -> Option<()> {
    updates.send(update).await.then_some(())
}

fn report(problem: &Problem) {
    tracing::error!(error = problem as &dyn Error, "manifests");
}
