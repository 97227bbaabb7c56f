//! Which numbers of `LISTS` are given out, and what each list says.

use std::collections::BTreeMap;

use shunt_ebpf::tables::{List, ListWord, Target};

use super::runs::Run;

/// The lists, as the kernel has them.
///
/// Number 0 is no list. A number that no frontend names any more is retired, and given out again
/// only after a grace period: a program may have read it from a frontend just before.
pub(super) struct Lists {
    states: Vec<State>,
    free: Vec<u32>,
    size: u32,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// As in the kernel.
    list: List,
    /// How many frontends in the kernel name it.
    named: u32,
}

impl Lists {
    /// No list is given out.
    pub(super) fn new(size: u32) -> Self {
        Self { states: vec![State::default()], free: Vec::new(), size: size.min(Target::MAX_LISTS) }
    }

    /// Goes on from the lists that were found in the kernel.
    pub(super) fn adopted(size: u32, found: &BTreeMap<u32, List>) -> Self {
        let mut lists = Self::new(size);
        let highest = found.last_key_value().map_or(0, |(number, _)| *number);
        for number in 1..=highest {
            let list = found.get(&number).copied();
            lists.free.extend(list.is_none().then_some(number));
            lists.states.push(State { list: list.unwrap_or_default(), named: 0 });
        }
        lists
    }

    /// Makes room for so many more, instead of twice as many.
    pub(super) fn reserve(&mut self, more: usize) {
        self.states.reserve_exact(more);
    }

    /// Numbers that are given out, those that wait for a grace period included.
    pub(super) fn used(&self) -> u32 {
        (self.states.len() - self.free.len()).saturating_sub(1) as u32
    }

    /// Gives out a number.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        let number = self.states.len() as u32;
        if number >= self.size {
            return None;
        }
        self.states.push(State::default());
        Some(number)
    }

    /// Gives a number back; no frontend has named it for a grace period.
    pub(super) fn free(&mut self, number: u32) {
        self.free.push(number);
    }

    /// What a list says.
    pub(super) fn get(&self, number: u32) -> List {
        self.states.get(number as usize).map(|state| state.list).unwrap_or_default()
    }

    /// The entries that a list names.
    pub(super) fn run(&self, number: u32) -> Option<Run> {
        match ListWord::decode(self.get(number).word) {
            ListWord::Run { base, count } => Some(Run { base, count }),
            ListWord::Left | ListWord::Refuse => None,
        }
    }

    /// Notes what the kernel now has.
    pub(super) fn set(&mut self, number: u32, list: List) {
        if let Some(state) = self.states.get_mut(number as usize) {
            state.list = list;
        }
    }

    /// How many frontends name a list.
    pub(super) fn named(&self, number: u32) -> u32 {
        self.states.get(number as usize).map_or(0, |state| state.named)
    }

    /// Notes that one frontend more names a list.
    pub(super) fn name(&mut self, number: u32) {
        if let Some(state) = self.states.get_mut(number as usize) {
            state.named += 1;
        }
    }

    /// Notes that one frontend less names a list; true if it was the last.
    pub(super) fn unname(&mut self, number: u32) -> bool {
        let Some(state) = self.states.get_mut(number as usize) else { return false };
        state.named = state.named.saturating_sub(1);
        state.named == 0
    }
}
