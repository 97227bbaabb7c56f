//! Which endpoint of a list?

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
};
use shunt_ebpf::{
    address::Address,
    affinity::{Affinity, AffinityKey},
    socket::Tuple,
    tables::{Endpoint, List, ListWord, Target, order},
};

use crate::{
    call::Call,
    maps::{AFFINITY, ENDPOINTS, LISTS},
    number::is_less,
};

/// An address and port to send a call to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: Address,
    pub(crate) port: u16,
}

impl From<Tuple> for Place {
    #[inline(always)]
    fn from(tuple: Tuple) -> Self {
        Self { address: tuple.address, port: tuple.port }
    }
}

impl From<Place> for Tuple {
    #[inline(always)]
    fn from(place: Place) -> Self {
        Self { address: place.address, port: place.port, zero: [0; 3] }
    }
}

/// What a call to a frontend gets.
pub(crate) enum Choice {
    /// It goes to this endpoint.
    Endpoint { service: u32, list: u32, place: Place },
    /// It is refused: there is no endpoint anywhere.
    Refuse { service: u32 },
    /// It is the packet path's.
    Left { service: u32 },
    /// A table could not be read.
    Unreadable,
}

/// Chooses among the endpoints of a list. `remembered` is where the socket's last datagram to the
/// same frontend went: it goes there again as long as the list has that endpoint.
#[inline(always)]
pub(crate) fn choose(call: &Call, target: Target, remembered: Option<Place>) -> Choice {
    let number = target.list();
    let Some(list) = LISTS.get_ptr(number) else { return Choice::Unreadable };
    let list = read(list);
    let service = list.service();
    let run = match ListWord::decode(list.word) {
        ListWord::Left => return Choice::Left { service },
        ListWord::Refuse => return Choice::Refuse { service },
        ListWord::Run { base, count } => Run { base, count },
    };
    let chosen = if list.affinity_seconds() != 0 {
        sticky(call, &list, run)
    } else {
        keep_or_pick(run, remembered)
    };
    match chosen {
        Some(place) => Choice::Endpoint { service, list: number, place },
        None => Choice::Unreadable,
    }
}

/// The two words of a list. `word` names the run; `owner` does not change while a frontend names
/// the list, but for the affinity time-out, and either value of that is right.
#[inline(always)]
fn read(list: *const List) -> List {
    // SAFETY: `list` points to the array's element, whose words user space stores one by one.
    let word = unsafe { ptr::read_volatile(&raw const (*list).word) };
    // SAFETY: as above.
    let owner = unsafe { ptr::read_volatile(&raw const (*list).owner) };
    List { word, owner }
}

/// The remembered place if the list still has it, else any.
#[inline(always)]
fn keep_or_pick(run: Run, remembered: Option<Place>) -> Option<Place> {
    match remembered {
        Some(place) if run.contains(place) => Some(place),
        _ => run.any(),
    }
}

/// ClientIP affinity: the endpoint that this client was sent to, if the list still has it and it
/// was used within the time-out; else a new one. Either way the time begins anew.
#[inline(always)]
fn sticky(call: &Call, list: &List, run: Run) -> Option<Place> {
    let key = AffinityKey { netns: call.netns(), service: list.service(), zero: 0 };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let timeout = u64::from(list.affinity_seconds()) * 1_000_000_000;
    let old = recall(key);
    let fresh = old.filter(|old| now.wrapping_sub(old.used) <= timeout);
    let place = keep_or_pick(run, fresh.map(place_of))?;
    let mut new =
        Affinity { key, address: place.address, used: now, port: place.port, zero: 0, seal: 0 };
    new.seal = new.sealed();
    let flags = if old.is_some() { BPF_ANY } else { BPF_NOEXIST };
    if AFFINITY.insert(key, new, flags.into()).is_ok() || old.is_some() {
        // The map evicts the least recently used, so renewing fails only for want of memory; the
        // connection is served all the same, and the next one may go elsewhere.
        return Some(place);
    }
    // Two first connections at once: the second one follows the first.
    recall(key).map(place_of).filter(|other| run.contains(*other)).or(Some(place))
}

#[inline(always)]
fn place_of(affinity: Affinity) -> Place {
    Place { address: affinity.address, port: affinity.port }
}

/// What is remembered of a client, if it really is this client's.
#[inline(always)]
fn recall(key: AffinityKey) -> Option<Affinity> {
    let found = AFFINITY.get_ptr(key)?;
    // SAFETY: the kernel may reuse the element's memory for another key while we copy it; key and
    // seal are checked on the copy.
    let copy = unsafe { ptr::read_volatile(found) };
    (copy.key == key && copy.seal == copy.sealed()).then_some(copy)
}

/// A run of `ENDPOINTS`, never written while a list names it, sorted.
#[derive(Clone, Copy)]
struct Run {
    base: u32,
    count: u32,
}

/// Halving a list this often leaves nothing: no list is longer than 2²⁰.
const HALVINGS: u32 = 21;

impl Run {
    #[inline(always)]
    fn endpoint(self, index: u32) -> Option<&'static Endpoint> {
        ENDPOINTS.get(self.base.wrapping_add(index))
    }

    #[inline(always)]
    fn get(self, index: u32) -> Option<Place> {
        let endpoint = self.endpoint(index)?;
        Some(Place { address: endpoint.address, port: endpoint.port })
    }

    /// An endpoint at random; the bias is below one in 2¹².
    #[inline(always)]
    fn any(self) -> Option<Place> {
        // SAFETY: the helper has no preconditions.
        let random = unsafe { bpf_get_prandom_u32() };
        self.get(((u64::from(random) * u64::from(self.count)) >> 32) as u32)
    }

    /// Searches by halves, without a branch on what it compares.
    #[inline(always)]
    fn contains(self, place: Place) -> bool {
        let wanted = order(place.address, place.port);
        // Invariant: if the run has it, it is among the `length` endpoints from `low` on.
        let mut low = 0;
        let mut length = self.count;
        for _ in 0..HALVINGS {
            if length <= 1 {
                break;
            }
            let half = length / 2;
            let Some(middle) = self.endpoint(low + half) else { return false };
            low += half & is_less(wanted, middle.order).wrapping_sub(1);
            length -= half;
        }
        self.get(low) == Some(place)
    }
}
