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
    owners: HashMap<Slot, Claim, RandomState>,
    /// Claims that lost; sorted: the first takes over when the owner goes. A slot with none is not
    /// here, which is nearly every one.
    losers: HashMap<Slot, Vec<Loser>, RandomState>,
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

    fn frontend(self, rank: Rank) -> Frontend {
        let kind = match (self.place, rank) {
            (Place::NodePort(_), _) => FrontendKind::NodePort,
            (Place::Address(address), Rank::LoadBalancerIp) => {
                FrontendKind::LoadBalancerIp(address)
            }
            (Place::Address(address), Rank::ExternalIp) => FrontendKind::ExternalIp(address),
            (Place::Address(address), _) => FrontendKind::ClusterIp(address),
        };
        Frontend::new(kind, self.port)
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
    rank: Rank,
    claimant: Arc<Claimant>,
}

/// A kind of frontend without its address, which the slot has, in the order in which they win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    ClusterIp,
    ExternalIp,
    LoadBalancerIp,
    NodePort,
}

impl Rank {
    const fn of(kind: FrontendKind) -> Self {
        match kind {
            FrontendKind::ClusterIp(_) => Self::ClusterIp,
            FrontendKind::ExternalIp(_) => Self::ExternalIp,
            FrontendKind::LoadBalancerIp(_) => Self::LoadBalancerIp,
            FrontendKind::NodePort => Self::NodePort,
        }
    }
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
        self.owners.reserve(slots);
    }

    pub(super) fn claim(
        &mut self,
        slot: Slot,
        kind: FrontendKind,
        claimant: &Arc<Claimant>,
    ) -> Claimed {
        let claim = Claim { rank: Rank::of(kind), claimant: Arc::clone(claimant) };
        let owner = match self.owners.entry(slot) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(claim);
                return Claimed::Alone;
            }
            hash_map::Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if *owner < claim {
            self.lose(slot, claim);
            return Claimed::Lost;
        }
        let beaten = mem::replace(owner, claim);
        let from = Arc::clone(&beaten.claimant);
        self.lose(slot, beaten);
        self.forget_warnings(slot);
        Claimed::From(from)
    }

    /// Takes a claim back; returns the new owner if that changed it.
    pub(super) fn release(
        &mut self,
        slot: Slot,
        claimant: &Arc<Claimant>,
    ) -> Option<Arc<Claimant>> {
        if !self.is_owner(slot, claimant) {
            if let hash_map::Entry::Occupied(mut losers) = self.losers.entry(slot) {
                losers.get_mut().retain(|loser| loser.claim.claimant != *claimant);
                if losers.get().is_empty() {
                    losers.remove();
                }
            }
            return None;
        }
        let Some(heir) = self.take_heir(slot) else {
            self.owners.remove(&slot);
            return None;
        };
        let owner = Arc::clone(&heir.claimant);
        self.owners.insert(slot, heir);
        self.forget_warnings(slot);
        Some(owner)
    }

    pub(super) fn is_owner(&self, slot: Slot, claimant: &Claimant) -> bool {
        self.owners.get(&slot).is_some_and(|owner| *owner.claimant == *claimant)
    }

    /// The losses of the slot that were not told yet. They count as told from now on.
    pub(super) fn untold_losses(&mut self, slot: Slot) -> Vec<Warning> {
        let Some(owner) = self.owners.get(&slot) else { return Vec::new() };
        let owner = &owner.claimant.key;
        let tell = |loser: &mut Loser| {
            let told = mem::replace(&mut loser.warned, true);
            (!told).then(|| loser.warning(slot, owner))
        };
        self.losers.get_mut(&slot).into_iter().flatten().filter_map(tell).collect()
    }

    fn lose(&mut self, slot: Slot, claim: Claim) {
        let losers = self.losers.entry(slot).or_default();
        let place = losers.partition_point(|loser| loser.claim < claim);
        losers.insert(place, Loser { claim, warned: false });
    }

    fn take_heir(&mut self, slot: Slot) -> Option<Claim> {
        let hash_map::Entry::Occupied(mut losers) = self.losers.entry(slot) else { return None };
        // What is here is never empty.
        let heir = losers.get_mut().remove(0).claim;
        if losers.get().is_empty() {
            losers.remove();
        }
        Some(heir)
    }

    fn forget_warnings(&mut self, slot: Slot) {
        for loser in self.losers.get_mut(&slot).into_iter().flatten() {
            loser.warned = false;
        }
    }
}

impl Loser {
    fn warning(&self, slot: Slot, owner: &ServicePortKey) -> Warning {
        Warning::FrontendClash {
            frontend: slot.frontend(self.claim.rank),
            loser: self.claim.claimant.key.clone(),
            owner: owner.clone(),
        }
    }
}
