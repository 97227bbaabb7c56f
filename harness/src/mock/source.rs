//! A source that says what a test tells it to say, well or badly.

use std::collections::BTreeMap;

use async_trait::async_trait;
use shunt_core::{
    ServiceSource, Update,
    source::{Completeness, Object, ObjectId, SourceError, SourceName, UpdateSender},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A mock source and the handle that drives it.
#[must_use]
pub fn source() -> (MockSource, MockHandle) {
    let (script, commands) = mpsc::unbounded_channel();
    let source = MockSource { commands, state: State::default() };
    (source, MockHandle { script })
}

/// A source with its name, as the engine takes it.
#[must_use]
pub fn named(
    name: &str,
    source: impl ServiceSource + 'static,
) -> (SourceName, Box<dyn ServiceSource>) {
    (SourceName::new(name), Box::new(source))
}

/// How a mock source misbehaves. Whatever it does is within the contract of a source but for
/// `never_sync`, so the engine has to come to the same end.
#[derive(Clone, Debug, Default)]
pub struct Misbehaviour {
    /// Says everything twice.
    pub duplicate: bool,
    /// Holds changes back until the next `Synced`, and says them in an order that this seed
    /// gives. Changes of one object keep their order, as every API server keeps it.
    pub reorder: Option<u64>,
    /// Lists everything anew, from `Reset` to `Synced`, after every so many changes.
    pub reset_every: Option<usize>,
    /// Never says `Synced`.
    pub never_sync: bool,
}

/// Drives a [`MockSource`]. Nothing here waits; see [`Self::delivered`].
#[derive(Clone, Debug)]
pub struct MockHandle {
    script: mpsc::UnboundedSender<Command>,
}

#[derive(Debug)]
enum Command {
    Say(Update),
    Misbehave(Misbehaviour),
    Relist,
    Fail(String),
    Report(oneshot::Sender<()>),
}

impl MockHandle {
    /// An object exists and looks so.
    pub fn upsert(&self, object: Object) {
        self.say(Update::Upsert(object));
    }

    /// An object is gone.
    pub fn remove(&self, id: ObjectId) {
        self.say(Update::Remove(id));
    }

    /// Everything was said.
    pub fn synced(&self) {
        self.say(Update::Synced(Completeness::Complete));
    }

    /// Any update, such as a `Reset` or a partial `Synced`.
    pub fn say(&self, update: Update) {
        self.command(Command::Say(update));
    }

    /// Lists everything anew: `Reset`, every object, `Synced`.
    pub fn relist(&self) {
        self.command(Command::Relist);
    }

    /// Misbehaves so from now on.
    pub fn misbehave(&self, misbehaviour: Misbehaviour) {
        self.command(Command::Misbehave(misbehaviour));
    }

    /// Ends the source with an error.
    pub fn fail(&self, why: &str) {
        self.command(Command::Fail(why.to_owned()));
    }

    /// Waits until everything up to here is in the engine's queue. At once if the source has ended.
    pub async fn delivered(&self) {
        let (report, delivered) = oneshot::channel();
        self.command(Command::Report(report));
        // An error means that the source has ended, and then there is nothing to wait for.
        let _ = delivered.await;
    }

    fn command(&self, command: Command) {
        // A test may go on to drive a source that has ended.
        let _ = self.script.send(command);
    }
}

/// A source that a test drives through its [`MockHandle`].
#[derive(Debug)]
pub struct MockSource {
    commands: mpsc::UnboundedReceiver<Command>,
    state: State,
}

/// What the source has, and how it says it.
#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectId, Object>,
    misbehaviour: Misbehaviour,
    held: Vec<Update>,
    changes: usize,
}

#[async_trait]
impl ServiceSource for MockSource {
    async fn run(
        self: Box<Self>,
        updates: UpdateSender,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        let Self { mut commands, mut state } = *self;
        loop {
            let command = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                command = commands.recv() => command,
            };
            let Some(command) = command else {
                // The test let go of the handle; the engine must not take that for an end.
                shutdown.cancelled().await;
                return Ok(());
            };
            let said = match command {
                Command::Say(update) => state.say(update),
                Command::Relist => state.relist(),
                Command::Misbehave(misbehaviour) => {
                    state.misbehaviour = misbehaviour;
                    Vec::new()
                }
                Command::Fail(why) => {
                    let source_name = updates.source().clone();
                    return Err(SourceError { source_name, cause: why.into() });
                }
                Command::Report(report) => {
                    // Whoever asked may have given up.
                    let _ = report.send(());
                    Vec::new()
                }
            };
            if !updates.send_all(said).await {
                return Ok(());
            }
        }
    }
}

impl State {
    /// What is really said for an update.
    fn say(&mut self, update: Update) -> Vec<Update> {
        match &update {
            Update::Upsert(object) => {
                self.objects.insert(object.id(), object.clone());
            }
            Update::Remove(id) => {
                self.objects.remove(id);
            }
            Update::Reset => (),
            Update::Synced(_) if self.misbehaviour.never_sync => return Vec::new(),
            Update::Synced(_) => {
                let mut said = self.release();
                said.push(update);
                return self.doubled(said);
            }
        }
        self.changes += 1;
        let is_time = self.misbehaviour.reset_every.is_some_and(|n| self.changes.is_multiple_of(n));
        if is_time {
            let mut said = self.release();
            said.push(update);
            said.extend(self.relist());
            return self.doubled(said);
        }
        if self.misbehaviour.reorder.is_some() {
            self.held.push(update);
            return Vec::new();
        }
        self.doubled(vec![update])
    }

    fn relist(&self) -> Vec<Update> {
        let objects = self.objects.values().cloned().map(Update::Upsert);
        let end = (!self.misbehaviour.never_sync).then_some(Update::Synced(Completeness::Complete));
        std::iter::once(Update::Reset).chain(objects).chain(end).collect()
    }

    /// What was held back, in a new order: objects take turns by a random number, and each says
    /// its changes in their own order.
    fn release(&mut self) -> Vec<Update> {
        let mut numbers = self.misbehaviour.reorder.unwrap_or_default();
        let mut turns: BTreeMap<ObjectId, Vec<(u64, Update)>> = BTreeMap::new();
        let mut resets = Vec::new();
        for update in self.held.drain(..) {
            let id = match &update {
                Update::Upsert(object) => object.id(),
                Update::Remove(id) => id.clone(),
                Update::Reset | Update::Synced(_) => {
                    resets.push(update);
                    continue;
                }
            };
            turns.entry(id).or_default().push((next(&mut numbers), update));
        }
        for updates in turns.values_mut() {
            let mut order: Vec<u64> = updates.iter().map(|(number, _)| *number).collect();
            order.sort_unstable();
            for ((number, _), sorted) in updates.iter_mut().zip(order) {
                *number = sorted;
            }
        }
        let mut shuffled: Vec<_> = turns.into_values().flatten().collect();
        shuffled.sort_by_key(|(number, _)| *number);
        resets.into_iter().chain(shuffled.into_iter().map(|(_, update)| update)).collect()
    }

    fn doubled(&self, said: Vec<Update>) -> Vec<Update> {
        if !self.misbehaviour.duplicate {
            return said;
        }
        said.into_iter().flat_map(|update| [update.clone(), update]).collect()
    }
}

/// SplitMix64, by Sebastiano Vigna (public domain): enough to shuffle, and the same everywhere.
const fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
