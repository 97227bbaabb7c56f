//! Which file holds which object, and whose version is used.
//!
//! Objects themselves are not kept, only fingerprints of what was sent: the engine has them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    num::NonZeroU64,
    path::PathBuf,
    sync::Arc,
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use shunt_core::{
    Update,
    source::{Object, ObjectId},
};

use super::{error::Problem, manifest::Reading, paths::FileKey};
use crate::sources::objects::ObjectWarning;

/// What every file holds.
#[derive(Debug, Default)]
pub(super) struct Claims {
    files: BTreeMap<FileKey, Contents>,
    used: HashMap<ObjectId, Used, RandomState>,
    /// Objects that several files hold.
    contested: HashMap<ObjectId, BTreeSet<FileKey>>,
}

/// What one file held when it was last read.
#[derive(Debug, Default)]
struct Contents {
    /// Each once, in no order.
    objects: Box<[ObjectId]>,
    /// Whether something in it could not be read.
    is_broken: bool,
    /// Whether the file was seen to be gone a moment ago.
    is_departing: bool,
}

/// The version of an object that was sent.
#[derive(Debug)]
struct Used {
    file: Arc<FileKey>,
    /// `None` after the file that held it has gone and another one took over, until that is read.
    fingerprint: Option<NonZeroU64>,
}

/// What follows from what was read.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What changed: an object, or `None` for one that is gone. A later change of an object takes
    /// the place of an earlier one, so an object that moves between files is never removed.
    pub(super) changes: IndexMap<ObjectId, Option<Object>, RandomState>,
    /// What an operator has to mend.
    pub(super) problems: Vec<Problem>,
    /// What was left out of objects that changed.
    pub(super) warnings: Vec<ObjectWarning>,
    /// Files whose version of an object is needed now, because the one before it is gone.
    pub(super) wanted: BTreeSet<FileKey>,
}

impl Outcome {
    /// The changes as updates.
    pub(super) fn into_updates(self) -> impl Iterator<Item = Update> {
        self.changes.into_iter().map(|(id, object)| match object {
            Some(object) => Update::Upsert(object),
            None => Update::Remove(id),
        })
    }
}

impl Claims {
    /// Takes up what a file holds now.
    pub(super) fn take(&mut self, file: &FileKey, reading: Reading, outcome: &mut Outcome) {
        let mut contents =
            Contents { is_broken: !reading.errors.is_empty(), ..Contents::default() };
        let count = reading.objects.len();
        let mut objects = HashSet::with_capacity_and_hasher(count, RandomState::default());
        // Growing step by step would have each of these twice for a moment, and leave gaps.
        outcome.changes.reserve(count.saturating_sub(self.used.len()));
        self.used.reserve(count.saturating_sub(self.used.len()));
        let key = Arc::new(file.clone());
        for cause in reading.errors {
            outcome.problems.push(Problem::Object { file: file.to_path_buf(), cause });
        }
        for (object, warnings) in reading.objects {
            let id = object.id();
            if !objects.insert(id.clone()) {
                let (used, other) = (file.to_path_buf(), file.to_path_buf());
                outcome.problems.push(Problem::Twice { id, used, other });
                continue;
            }
            self.claim(&key, id, object, warnings, outcome);
        }
        let before = self.files.remove(file).unwrap_or_default();
        if contents.is_broken {
            objects.extend(before.objects);
        } else {
            for id in before.objects.iter().filter(|id| !objects.contains(id)) {
                self.release(file, id, outcome);
            }
        }
        contents.objects = objects.into_iter().collect();
        self.files.insert(file.clone(), contents);
    }

    /// Notes that a file could not be read; what it held stays.
    pub(super) fn fail(&mut self, file: &FileKey) {
        self.files.entry(file.clone()).or_default().is_broken = true;
    }

    /// Notes that a file may be gone: what it held stays until that is certain, but another file
    /// that holds the same is no clash.
    pub(super) fn depart(&mut self, file: &FileKey) {
        if let Some(contents) = self.files.get_mut(file) {
            contents.is_departing = true;
        }
    }

    /// Takes note that a file is gone, and what it held with it.
    pub(super) fn remove(&mut self, file: &FileKey, outcome: &mut Outcome) {
        for id in self.files.remove(file).unwrap_or_default().objects {
            self.release(file, &id, outcome);
        }
    }

    /// Whether everything in every file could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.files.values().all(|contents| !contents.is_broken)
    }

    /// The files that there were.
    pub(super) fn files(&self) -> impl Iterator<Item = &FileKey> {
        self.files.keys()
    }

    /// Whether a file is known.
    pub(super) fn knows(&self, file: &FileKey) -> bool {
        self.files.contains_key(file)
    }

    /// Whether a file is known and could not be read as a whole.
    pub(super) fn is_broken(&self, file: &FileKey) -> bool {
        self.files.get(file).is_some_and(|contents| contents.is_broken)
    }

    fn claim(
        &mut self,
        file: &Arc<FileKey>,
        id: ObjectId,
        object: Object,
        warnings: Box<[ObjectWarning]>,
        outcome: &mut Outcome,
    ) {
        let fingerprint = Some(fingerprint(&object));
        let Some(used) = self.used.get_mut(&id) else {
            self.used.insert(id.clone(), Used { file: Arc::clone(file), fingerprint });
            outcome.warnings.extend(warnings);
            outcome.changes.insert(id, Some(object));
            return;
        };
        if self.files.get(&used.file).is_some_and(|contents| contents.is_departing) {
            used.file = Arc::clone(file);
        }
        if used.file != *file {
            let files = self.contested.entry(id.clone()).or_default();
            files.insert(FileKey::clone(&used.file));
            if files.insert(FileKey::clone(file)) {
                let [first, other] = sorted(&used.file, file);
                outcome.problems.push(Problem::Twice { id: id.clone(), used: first, other });
            }
            if used.file < *file {
                return;
            }
            used.file = Arc::clone(file);
        }
        if used.fingerprint != fingerprint {
            used.fingerprint = fingerprint;
            outcome.warnings.extend(warnings);
            outcome.changes.insert(id, Some(object));
        }
    }

    fn release(&mut self, file: &FileKey, id: &ObjectId, outcome: &mut Outcome) {
        let mut heir = None;
        if let Some(files) = self.contested.get_mut(id) {
            files.remove(file);
            heir = files.first().cloned();
            if files.len() < 2 {
                self.contested.remove(id);
            }
        }
        let Some(used) = self.used.get_mut(id).filter(|used| *used.file == *file) else { return };
        match heir {
            // The version that is served stays until the heir has been read.
            Some(heir) => {
                *used = Used { file: Arc::new(heir.clone()), fingerprint: None };
                outcome.wanted.insert(heir);
            }
            None => {
                self.used.remove(id);
                outcome.changes.insert(id.clone(), None);
            }
        }
    }
}

fn sorted(one: &FileKey, two: &FileKey) -> [PathBuf; 2] {
    let (first, other) = if one < two { (one, two) } else { (two, one) };
    [first.to_path_buf(), other.to_path_buf()]
}

/// 64 bits of the object. That two versions of one object have the same is once in 2^64 changes.
fn fingerprint(object: &Object) -> NonZeroU64 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(object);
    NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN)
}
