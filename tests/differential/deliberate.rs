//! The differences on purpose.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::look::{Cell, Outcome};

/// The list for one mode.
pub(crate) struct Deliberate(Vec<Difference>);

/// One difference on purpose. What is not said does not matter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Difference {
    #[expect(dead_code, reason = "it is for readers of the list")]
    reason: String,
    /// The modes of the agent in which it shows.
    modes: Vec<String>,
    /// Who sends.
    clients: Option<Vec<String>>,
    /// To what.
    kinds: Option<Vec<String>>,
    /// A field of the Service's `spec` and its value.
    spec: Option<(String, String)>,
    /// Whether the Service has source ranges, and none of them is of the address's family.
    #[serde(default)]
    ranges_of_other_family: bool,
    /// Whether nothing differs but that the client reaches itself, where kube-proxy is silent.
    #[serde(default)]
    only_hairpin: bool,
    /// Whether the same pods answer, and only the source that they see differs.
    #[serde(default)]
    only_source: bool,
}

impl Deliberate {
    /// The differences that show in this mode.
    pub(crate) fn read(mode: &str) -> Self {
        let text = include_str!("../../harness/testdata/differences.json");
        let mut all: Vec<Difference> = serde_json::from_str(text).unwrap();
        all.retain(|difference| difference.modes.iter().any(|name| name == mode));
        Self(all)
    }

    /// Whether this difference is one of them.
    pub(crate) fn explains(&self, cell: &Cell, there: &Outcome, here: &Outcome) -> bool {
        self.0.iter().any(|difference| difference.explains(cell, there, here))
    }
}

impl Difference {
    fn explains(&self, cell: &Cell, there: &Outcome, here: &Outcome) -> bool {
        let is_in = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref().is_none_or(|list| list.iter().any(|known| known == name))
        };
        let has = |(field, value): &(String, String)| cell.service["spec"][field] == **value;
        is_in(&self.clients, cell.client)
            && is_in(&self.kinds, cell.kind)
            && self.spec.as_ref().is_none_or(has)
            && (!self.ranges_of_other_family || has_ranges_of_other_family(cell))
            && (!self.only_hairpin || without_hairpin(cell, there) == without_hairpin(cell, here))
            && (!self.only_source || pods(there) == pods(here))
    }
}

/// The outcome without what comes of the client's choosing itself.
fn without_hairpin<'a>(cell: &Cell, outcome: &'a Outcome) -> BTreeSet<&'a str> {
    let own = format!("{} sees ", cell.client);
    let others = outcome.0.iter().map(String::as_str);
    others.filter(|who| *who != "silence" && !who.starts_with(&own)).collect()
}

fn has_ranges_of_other_family(cell: &Cell) -> bool {
    let ranges = cell.service["spec"]["loadBalancerSourceRanges"].as_array();
    let is_of_other = |range: &serde_json::Value| {
        range.as_str().is_some_and(|text| text.contains(':') != cell.to.is_ipv6())
    };
    ranges.is_some_and(|ranges| ranges.iter().all(is_of_other))
}

/// Who answered, whatever the source was.
fn pods(outcome: &Outcome) -> BTreeSet<&str> {
    outcome
        .0
        .iter()
        .map(|who| who.split_once(" sees ").map_or(who.as_str(), |(pod, _)| pod))
        .collect()
}
