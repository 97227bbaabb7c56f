//! Who owns a frontend: one (address, protocol, port) has one owner.

use std::{
    collections::{HashMap, hash_map},
    mem,
    net::IpAddr,
    num::NonZeroU16,
    sync::Arc,
};

use foldhash::quality::RandomState;

use super::{Frontend, FrontendKind, ServicePortKey, Warning};
use crate::model::{Family, Protocol};

/// Every frontend that some ServicePort claims, and who gets it.
#[derive(Debug, Default)]
pub(super) struct Owners {
    slots: HashMap<Slot, Contest, RandomState>,
}

/// What only one ServicePort can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    place: Place,
    protocol: Protocol,
    port: NonZeroU16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Address(IpAddr),
    NodePort(Family),
}

impl Slot {
    pub(super) fn of(frontend: &Frontend, key: &ServicePortKey) -> Self {
        let place = frontend.kind.address().map_or(Place::NodePort(key.family), Place::Address);
        Self { place, protocol: key.protocol, port: frontend.port }
    }
}

/// A ServicePort that claims frontends. The order is that in which claims of one kind win: the
/// older Service, then the name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimant {
    pub(super) created: i64,
    pub(super) key: ServicePortKey,
}

/// A claim; the least of them owns the slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    kind: FrontendKind,
    claimant: Arc<Claimant>,
}

#[derive(Debug)]
struct Contest {
    owner: Claim,
    /// Sorted: the first takes over when the owner goes.
    losers: Vec<Loser>,
}

#[derive(Debug)]
struct Loser {
    claim: Claim,
    /// Whether people were told of this loss against this owner.
    warned: bool,
}

/// What became of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// Nobody else wants the slot.
    Alone,
    /// The claim took the slot from this owner.
    From(Arc<Claimant>),
    /// The slot belongs to another.
    Lost,
}

impl Owners {
    /// Makes room for so many slots more, before many are claimed at once.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.slots.reserve(slots);
    }

    pub(super) fn claim(
        &mut self,
        slot: Slot,
        kind: FrontendKind,
        claimant: &Arc<Claimant>,
    ) -> Claimed {
        let claim = Claim { kind, claimant: Arc::clone(claimant) };
        let contest = match self.slots.entry(slot) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Contest { owner: claim, losers: Vec::new() });
                return Claimed::Alone;
            }
            hash_map::Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if contest.owner < claim {
            contest.lose(claim);
            return Claimed::Lost;
        }
        let beaten = mem::replace(&mut contest.owner, claim);
        let from = Arc::clone(&beaten.claimant);
        contest.lose(beaten);
        contest.forget_warnings();
        Claimed::From(from)
    }

    /// Takes a claim back; returns the new owner if that changed it.
    pub(super) fn release(
        &mut self,
        slot: Slot,
        claimant: &Arc<Claimant>,
    ) -> Option<Arc<Claimant>> {
        let hash_map::Entry::Occupied(mut occupied) = self.slots.entry(slot) else { return None };
        let contest = occupied.get_mut();
        if contest.owner.claimant != *claimant {
            contest.losers.retain(|loser| loser.claim.claimant != *claimant);
            return None;
        }
        if contest.losers.is_empty() {
            occupied.remove();
            return None;
        }
        contest.owner = contest.losers.remove(0).claim;
        contest.forget_warnings();
        Some(Arc::clone(&contest.owner.claimant))
    }

    pub(super) fn is_owner(&self, slot: Slot, claimant: &Claimant) -> bool {
        self.slots.get(&slot).is_some_and(|contest| *contest.owner.claimant == *claimant)
    }

    /// The losses of the slot that were not told yet. They count as told from now on.
    pub(super) fn untold_losses(&mut self, slot: Slot) -> Vec<Warning> {
        let Some(Contest { owner, losers }) = self.slots.get_mut(&slot) else { return Vec::new() };
        let owner = &owner.claimant.key;
        let tell = |loser: &mut Loser| {
            let told = mem::replace(&mut loser.warned, true);
            (!told).then(|| loser.warning(slot, owner))
        };
        losers.iter_mut().filter_map(tell).collect()
    }
}

impl Contest {
    fn lose(&mut self, claim: Claim) {
        let place = self.losers.partition_point(|loser| loser.claim < claim);
        self.losers.insert(place, Loser { claim, warned: false });
    }

    fn forget_warnings(&mut self) {
        for loser in &mut self.losers {
            loser.warned = false;
        }
    }
}

impl Loser {
    fn warning(&self, slot: Slot, owner: &ServicePortKey) -> Warning {
        Warning::FrontendClash {
            frontend: Frontend::new(self.claim.kind, slot.port),
            loser: self.claim.claimant.key.clone(),
            owner: owner.clone(),
        }
    }
}
