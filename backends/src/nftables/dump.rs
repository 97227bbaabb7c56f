//! What was found in a table.

use std::{collections::HashMap, sync::Arc};

use shunt_core::model::Family;

use super::{
    data::{Bytes, Cursor, Data, ElementKey, Fields},
    ruleset::{Chain, List, Place, SetName},
};

/// What was found in a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The elements of sets that are ours, but for those that packets write.
    pub(super) elements: HashMap<ElementKey, FoundElement>,
    /// The chains that are ours.
    pub(super) chains: Vec<Chain>,
    /// The chains that frontends of their kind lead to.
    pub(super) kinds: Vec<(SetName, Chain)>,
    /// The sets that are ours and of our shape.
    pub(super) sets: Vec<SetName>,
    /// What is there and not ours, as people name it.
    pub(super) foreign: Vec<String>,
    /// What is ours by its name and not by its shape: the table cannot be taken over.
    pub(super) misshapen: Vec<String>,
    /// How many clients affinity remembers.
    pub(super) remembered: u64,
    /// The rules of each chain.
    pub(super) rules: FoundRules,
}

/// The expressions of each rule of each chain, as the kernel writes them.
pub(super) type FoundRules = HashMap<String, Vec<Vec<u8>>>;

/// An element that was found.
#[derive(Clone, Debug)]
pub(super) struct FoundElement {
    /// What the map says.
    pub(super) data: Data,
    /// Its comment.
    pub(super) comment: Option<Arc<str>>,
}

impl Found {
    /// Whether frontends of its kind lead to a chain, if there are any.
    pub(super) fn leads_to(&self, chain: Chain) -> bool {
        let is_in = |set| self.kinds.contains(&(set, chain));
        chain.kind().is_none()
            || (is_in(SetName::Kinds)
                && is_in(SetName::AnyKind)
                && (!chain.is_counted() || is_in(SetName::ListKinds)))
    }

    /// What a map says of a key.
    pub(super) fn data(&self, set: SetName, key: Bytes) -> Option<&Data> {
        self.elements.get(&(set, key)).map(|element| &element.data)
    }

    /// The number of the ServicePort behind a frontend.
    pub(super) fn id(&self, place: Place, frontend: &[u8]) -> Option<u32> {
        let Data::Value(value) = self.data(SetName::Ids(place), frontend.into())? else {
            return None;
        };
        let [_protocol, _, _, _, id @ ..] = &**value else { return None };
        Cursor(id).number()
    }

    /// The endpoints of a frontend's list, by slot; without affinity.
    pub(super) fn list(
        &self,
        family: Family,
        (place, frontend): (Place, &[u8]),
        list: List,
    ) -> Vec<std::net::SocketAddr> {
        self.slots(SetName::Endpoints(place), frontend, list, |value| endpoint(family, value))
    }

    /// The endpoints of a list of a ServicePort with affinity, by slot.
    pub(super) fn sticky_list(
        &self,
        family: Family,
        id: u32,
        list: List,
    ) -> Vec<std::net::SocketAddr> {
        let id = Fields::new().number(id).done();
        self.slots(SetName::StickyEndpoints, &id, list, |value| endpoint(family, value.get(8..)?))
    }

    fn slots<T>(
        &self,
        map: SetName,
        owner: &[u8],
        list: List,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Vec<T> {
        let at = |slot: u32| {
            let key = Fields::new().then(owner).number(slot).done();
            match self.data(map, key)? {
                Data::Value(value) => read(value),
                _ => None,
            }
        };
        (list.first_slot()..).map_while(at).collect()
    }
}

/// An address and a port.
fn endpoint(family: Family, value: &[u8]) -> Option<std::net::SocketAddr> {
    let mut value = Cursor(value);
    let address = value.address(family)?;
    Some(std::net::SocketAddr::new(address, value.port()?))
}
