//! Changing what lists say and which frontends name them.

use std::io;

use shunt_ebpf::tables::{Endpoint, List, ListWord, Target};

use super::{
    super::{
        encode::Content,
        slot::Slot,
        sys::{Array, Kernel, Word},
    },
    Failure, Run, Tables,
    frontends::Named,
};

impl<K: Kernel> Tables<K> {
    /// Whether a list says this already.
    pub(super) fn says(&mut self, list: u32, content: &Content) -> Result<bool, Failure> {
        let word = ListWord::decode(self.lists.get(list).word);
        match (content, word) {
            (Content::Refuse, ListWord::Refuse) | (Content::Left(_), ListWord::Left) => Ok(true),
            (Content::Endpoints(endpoints), ListWord::Run { base, count })
                if endpoints.len() == count as usize =>
            {
                let run = self.kernel.read_run(base, count);
                Ok(run.map_err(|cause| Failure::writing("ENDPOINTS", cause))? == *endpoints)
            }
            _ => Ok(false),
        }
    }

    /// Makes a list say this: a new run and one store.
    pub(super) fn say(&mut self, list: u32, content: &Content, owner: u64) -> Result<(), Failure> {
        let mut state = self.lists.get(list);
        if !self.says(list, content)? {
            let run = match content {
                Content::Endpoints(endpoints) => Some(self.write_run(endpoints)?),
                Content::Refuse | Content::Left(_) => None,
            };
            let word = match (content, run) {
                (_, Some(Run { base, count })) => ListWord::Run { base, count },
                (Content::Refuse, None) => ListWord::Refuse,
                (Content::Left(_) | Content::Endpoints(_), None) => ListWord::Left,
            };
            self.publish(list, word).inspect_err(|_| {
                // No list has ever named the run, so nobody can be reading it.
                run.into_iter().for_each(|run| self.runs.free(run));
            })?;
            state = self.lists.get(list);
        }
        if state.owner != owner {
            let result = self.kernel.store(Word::owner(list), owner);
            result.map_err(|cause| Failure::writing("LISTS", cause))?;
            self.lists.set(list, List { owner, ..state });
        }
        Ok(())
    }

    /// Stores a list's word; what it named before is garbage.
    pub(super) fn publish(&mut self, list: u32, word: ListWord) -> Result<(), Failure> {
        let state = self.lists.get(list);
        let old = self.lists.run(list);
        let result = self.kernel.store(Word::list(list), word.encode());
        result.map_err(|cause| Failure::writing("LISTS", cause))?;
        self.lists.set(list, List { word: word.encode(), ..state });
        self.garbage.runs.extend(old);
        Ok(())
    }

    fn write_run(&mut self, endpoints: &[Endpoint]) -> Result<Run, Failure> {
        let count = endpoints.len() as u32;
        let run = match self.runs.allocate(count) {
            Some(run) => run,
            None => {
                self.settle();
                self.runs.allocate(count).ok_or(Failure::Full(Array::Endpoints.name()))?
            }
        };
        if let Err(cause) = self.kernel.write_run(run.base, endpoints) {
            self.runs.free(run);
            return Err(Failure::writing("ENDPOINTS", cause));
        }
        Ok(run)
    }

    /// Gives out a list number.
    pub(super) fn new_list(&mut self) -> Result<u32, Failure> {
        if let Some(list) = self.lists.allocate() {
            return Ok(list);
        }
        self.settle();
        self.lists.allocate().ok_or(Failure::Full(Array::Lists.name()))
    }

    /// Notes how a write of a slot went.
    pub(super) fn note(&mut self, slot: Slot, named: Option<Named>) {
        if let Some(named) = named {
            self.lists.name(named.target.list());
        }
        let Some(old) = self.frontends.note(slot, named) else { return };
        self.freed |= named.is_none();
        let list = old.target.list();
        if self.lists.unname(list) {
            self.orphans.push(list);
        }
    }

    /// Retires what nothing names any more. Lists go on saying what they said until a grace period
    /// has passed: a program may have found one through a frontend that was moved just now.
    pub(super) fn sweep(&mut self) {
        let mut orphans = std::mem::take(&mut self.orphans);
        orphans.sort_unstable();
        orphans.dedup();
        orphans.retain(|list| self.lists.named(*list) == 0);
        self.garbage.lists.extend(orphans);
        if !self.garbage.is_empty() {
            self.grace.retire(std::mem::take(&mut self.garbage));
        }
    }

    /// Writes frontends and says of each how it went.
    pub(super) fn write_frontends<T>(
        &mut self,
        writes: super::frontends::Writes<(T, Named)>,
        mut each: impl FnMut(Slot, T, io::Result<()>),
    ) {
        let mut written = Vec::new();
        writes.update(&mut self.kernel, &mut self.epoch, |slot, (tag, named), result| {
            if result.is_ok() {
                written.push((slot, named));
            }
            each(slot, tag, result);
        });
        for (slot, named) in written {
            self.note(slot, Some(named));
        }
    }

    /// Deletes frontends and says of each how it went.
    pub(super) fn delete_frontends<T>(
        &mut self,
        slots: impl IntoIterator<Item = (Slot, T)>,
        mut each: impl FnMut(T, Slot, io::Result<()>),
    ) {
        let mut writes = super::frontends::Writes::new();
        for (slot, tag) in slots {
            writes.drop(slot, tag);
        }
        let mut gone = Vec::new();
        writes.delete(&mut self.kernel, &mut self.epoch, |slot, tag, result| {
            if result.is_ok() {
                gone.push(slot);
            }
            each(tag, slot, result);
        });
        for slot in gone {
            self.note(slot, None);
        }
    }

    /// The list that a slot names, if it is one of this ServicePort's.
    pub(super) fn list_of(&self, slot: Slot, service: u32) -> Option<u32> {
        let list = self.frontends.get(slot)?.target.list();
        (self.lists.get(list).service() == service).then_some(list)
    }

    /// Whether a slot has this target already.
    pub(super) fn has(&self, slot: Slot, target: Target) -> bool {
        self.frontends.get(slot).is_some_and(|named| named.target == target)
    }
}
