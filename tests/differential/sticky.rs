//! Session affinity: whom a client has reached, it reaches again.

use std::collections::{BTreeMap, BTreeSet};

use shunt_harness::world::World;

use crate::look::{Cell, Outcome};

/// What stands for one endpoint of those that there are, whichever chance chose.
const STAYED: &str = "always the same of those that there are";

/// What came of cells with affinity, whichever endpoint chance chose. `known` is what can come of
/// each without affinity; `looks` are two looks, one after the other.
pub(crate) fn judged(cells: &[Cell], known: &[Outcome], looks: [Vec<Outcome>; 2]) -> Vec<Outcome> {
    let seen: Vec<Outcome> = looks[0].iter().zip(&looks[1]).map(|(a, b)| union(a, b)).collect();
    let mut by_visitor: BTreeMap<Visitor<'_>, BTreeSet<&str>> = BTreeMap::new();
    for (cell, seen) in cells.iter().zip(&seen) {
        if let Some(visitor) = Visitor::of(cell) {
            by_visitor.entry(visitor).or_default().extend(seen.pods());
        }
    }
    let judge = |(number, cell): (usize, &Cell)| {
        let seen = &seen[number];
        let stayed = looks.iter().all(|look| look[number].0.len() == 1)
            && (cell.is_local() || seen.0.len() == 1)
            && Visitor::of(cell).is_none_or(|visitor| by_visitor[&visitor].len() <= 1);
        let is_known = seen.0.is_subset(&known[number].0);
        if stayed && is_known { Outcome::written(STAYED) } else { seen.clone() }
    };
    cells.iter().enumerate().map(judge).collect()
}

/// Either.
pub(crate) fn union(one: &Outcome, other: &Outcome) -> Outcome {
    Outcome(one.0.union(&other.0).cloned().collect())
}

/// Who is sent to one endpoint, whichever address of a ServicePort it dials. With a policy `Local`
/// some addresses may have other endpoints, and the node has several addresses.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Visitor<'a> {
    client: &'a str,
    is_ipv6: bool,
    service: &'a str,
    port: &'a str,
    protocol: String,
}

impl<'a> Visitor<'a> {
    fn of(cell: &'a Cell) -> Option<Self> {
        (!cell.is_local() && cell.client != World::OWN_NODE).then(|| Self {
            client: cell.client,
            is_ipv6: cell.to.is_ipv6(),
            service: cell.service["name"].as_str().unwrap_or_default(),
            port: &cell.port,
            protocol: cell.protocol.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shunt_core::model::Protocol;

    use super::*;

    fn cell(client: &'static str, policy: &str) -> Cell {
        Cell {
            client,
            kind: "clusterIP",
            to: "10.96.0.1:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: "a".to_owned(),
            service: json!({ "name": "web", "spec": { "externalTrafficPolicy": policy } }),
        }
    }

    #[test]
    fn who_stays_and_who_does_not() {
        let check = |client, policy, first: [&str; 2], second: [&str; 2], expected: [bool; 2]| {
            let cells = [cell(client, policy), cell(client, policy)];
            let known = ["a sees b, c sees b", "a sees b, c sees b"].map(Outcome::written);
            let looks = [first, second].map(|look| look.map(Outcome::written).to_vec());
            let judged = judged(&cells, &known, looks);
            let stayed: Vec<_> =
                judged.iter().map(|outcome| *outcome == Outcome::written(STAYED)).collect();
            assert_eq!(stayed, expected, "{client} {policy} {first:?} {second:?}");
        };
        let (a, c) = ("a sees b", "c sees b");
        check("outside", "Cluster", [a, a], [a, a], [true, true]);
        check("outside", "Cluster", [a, a], [a, c], [false, false]);
        check("outside", "Cluster", [a, c], [a, c], [false, false]);
        check("outside", "Cluster", ["d sees b"; 2], ["d sees b"; 2], [false, false]);
        check("outside", "Cluster", ["a sees b, c sees b", a], [a, a], [false, false]);
        check("outside", "Local", [a, c], [a, c], [true, true]);
        check("outside", "Local", [a, c], [c, c], [true, true]);
        check("outside", "Local", ["a sees b, c sees b", a], [a, a], [false, true]);
        check(World::OWN_NODE, "Cluster", [a, c], [a, c], [true, true]);
        check(World::OWN_NODE, "Cluster", [a, c], [a, a], [true, false]);
    }
}
