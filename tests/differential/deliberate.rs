//! The differences on purpose.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::{
    look::{Cell, Outcome, SILENCE},
    settings::{Modes, Settings},
};

/// The list.
pub(crate) struct Deliberate(pub(crate) Vec<Difference>);

/// One difference on purpose. What is not said does not matter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Difference {
    pub(crate) name: String,
    #[expect(dead_code, reason = "it is for readers of the list")]
    reason: String,
    /// The modes of the agent in which it shows.
    modes: Vec<String>,
    /// The modes of kube-proxy in which it shows.
    kube_proxy: Vec<String>,
    /// Whether it shows only where the nets of pods are known, or only where they are not.
    knows_pods: Option<bool>,
    /// Who sends.
    clients: Option<Vec<String>>,
    /// To what.
    kinds: Option<Vec<String>>,
    /// By which protocol.
    protocol: Option<String>,
    /// A field of the Service's `spec` and its value.
    spec: Option<(String, String)>,
    /// What comes of it with kube-proxy, and with the agent.
    theirs: Option<String>,
    ours: Option<String>,
    /// Who may answer with kube-proxy.
    their_pods: Option<Vec<String>>,
    /// Whether every connection is answered with the agent.
    #[serde(default)]
    ours_answer: bool,
    /// Whether nothing differs but that the client reaches itself, where kube-proxy is silent.
    #[serde(default)]
    only_hairpin: bool,
    /// Whether the same pods answer, and only the source that they see differs.
    #[serde(default)]
    only_source: bool,
}

impl Deliberate {
    pub(crate) fn read() -> Self {
        let text = include_str!("../../harness/testdata/differences.json");
        Self(serde_json::from_str(text).unwrap())
    }

    /// The difference of this name.
    pub(crate) fn named(&self, name: &str) -> &Difference {
        self.0.iter().find(|difference| difference.name == name).unwrap()
    }

    /// The name of the first that explains what differs.
    pub(crate) fn explanation(
        &self,
        (modes, settings): (Modes, &Settings),
        cell: &Cell,
        [there, here]: [&Outcome; 2],
    ) -> Option<&str> {
        let mut all = self.0.iter().filter(|difference| difference.shows_in(modes));
        let found = all.find(|difference| difference.explains(settings, cell, [there, here]));
        found.map(|difference| difference.name.as_str())
    }
}

impl Difference {
    /// Whether it shows in these modes.
    pub(crate) fn shows_in(&self, modes: Modes) -> bool {
        let has = |list: &[String], mode: &str| list.iter().any(|name| name == mode);
        has(&self.modes, modes.ours) && has(&self.kube_proxy, modes.theirs)
    }

    pub(crate) fn explains(
        &self,
        settings: &Settings,
        cell: &Cell,
        [there, here]: [&Outcome; 2],
    ) -> bool {
        let is_in = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref().is_none_or(|list| list.iter().any(|known| known == name))
        };
        let has = |(field, value): &(String, String)| cell.service["spec"][field] == **value;
        let is = |text: &Option<String>, found: &Outcome| {
            text.as_ref().is_none_or(|text| Outcome::written(text) == *found)
        };
        let are_theirs =
            |pods: &Vec<String>| there.pods().iter().all(|who| pods.iter().any(|pod| pod == who));
        let is_same_but_for_source =
            || there.pods() == here.pods() && there.failures() == here.failures();
        is_in(&self.clients, cell.client)
            && is_in(&self.kinds, cell.kind)
            && self.protocol.as_ref().is_none_or(|name| *name == cell.protocol.to_string())
            && self.knows_pods.is_none_or(|known| known == settings.knows_pods)
            && self.spec.as_ref().is_none_or(has)
            && is(&self.theirs, there)
            && is(&self.ours, here)
            && self.their_pods.as_ref().is_none_or(are_theirs)
            && (!self.ours_answer || here.failures().is_empty())
            && (!self.only_hairpin || without_hairpin(cell, there) == without_hairpin(cell, here))
            && (!self.only_source || is_same_but_for_source())
    }
}

/// The outcome without what comes of the client's choosing itself.
fn without_hairpin<'a>(cell: &Cell, outcome: &'a Outcome) -> BTreeSet<&'a str> {
    let own = format!("{} sees ", cell.client);
    let others = outcome.0.iter().map(String::as_str);
    others.filter(|who| *who != SILENCE && !who.starts_with(&own)).collect()
}
