//! From the events of one watch to updates: pure.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use foldhash::quality::RandomState;
use kube::runtime::watcher::Event;
use shunt_core::{Update, source::ObjectId};

use super::object::ApiObject;
use crate::sources::objects::{Names, ObjectError, ObjectKind, ObjectWarning, Parsed};

/// What is known of the objects of one kind.
#[derive(Debug)]
pub(super) struct Listing {
    kind: ObjectKind,
    /// The names of all kinds: an EndpointSlice says its Service's.
    names: Arc<Mutex<Names>>,
    /// The objects that the engine was told of. Names are shared with the model's objects.
    known: HashSet<ObjectId, RandomState>,
    /// Whether a list has begun and not ended.
    is_under_way: bool,
    /// The objects that the list under way has named so far, where some were known before it: only
    /// of those can one be gone at its end.
    listed: Option<HashSet<ObjectId, RandomState>>,
}

/// What follows from an event.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) updates: Vec<Update>,
    /// Objects that could not be read; what was last seen of them stays.
    pub(super) errors: Vec<ObjectError>,
    /// Parts of objects that were left out.
    pub(super) warnings: Vec<ObjectWarning>,
    /// Whether a complete list has just ended.
    pub(super) complete: bool,
}

impl Listing {
    pub(super) fn new(kind: ObjectKind, names: &Arc<Mutex<Names>>) -> Self {
        let (names, known) = (Arc::clone(names), HashSet::default());
        Self { kind, names, known, is_under_way: false, listed: None }
    }

    /// Whether no object is known.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a list has begun and not ended.
    pub(super) const fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Takes in an event of the watch.
    ///
    /// A list that is begun anew before it ended forgets what it named: only what one list names
    /// from its beginning to its end decides about what is gone.
    pub(super) fn take(&mut self, event: Event<ApiObject>) -> Told {
        let mut told = Told::default();
        match event {
            Event::Init => {
                self.is_under_way = true;
                self.listed = (!self.known.is_empty()).then(HashSet::default);
            }
            Event::InitApply(object) | Event::Apply(object) => self.upsert(&object, &mut told),
            Event::Delete(object) => self.remove(object.id(self.kind), &mut told),
            Event::InitDone => {
                self.is_under_way = false;
                if let Some(listed) = self.listed.take() {
                    let gone = self.known.extract_if(|id| !listed.contains(id));
                    told.updates.extend(gone.map(Update::Remove));
                }
                told.complete = true;
            }
        }
        told
    }

    fn upsert(&mut self, object: &ApiObject, told: &mut Told) {
        match object.parse(self.kind) {
            Ok(Parsed::Object { mut object, warnings }) => {
                // Nothing here panics in the middle of a change.
                self.names.lock().unwrap_or_else(PoisonError::into_inner).share(&mut object);
                told.warnings = warnings;
                let id = object.id();
                if let Some(listed) = &mut self.listed {
                    listed.insert(id.clone());
                }
                self.known.insert(id);
                told.updates.push(Update::Upsert(object));
            }
            // It may have been one to use a moment ago: a slice that became headless.
            Ok(Parsed::Ignored { .. } | Parsed::Unknown(_)) => {
                self.remove(object.id(self.kind), told);
            }
            Err(error) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(object.id(self.kind));
                }
                told.errors.push(error);
            }
        }
    }

    fn remove(&mut self, id: ObjectId, told: &mut Told) {
        if let Some(listed) = &mut self.listed {
            listed.remove(&id);
        }
        if self.known.remove(&id) {
            told.updates.push(Update::Remove(id));
        }
    }
}
