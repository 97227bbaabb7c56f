//! Both worlds, and what differs between them.

use std::{collections::BTreeMap, slice, thread};

use serde_json::{Value, json};
use shunt_core::model::Family;
use shunt_harness::{
    apiserver::{ApiServer, Programs, objects},
    probe::ProbeProgram,
    world::World,
};

use crate::{
    cluster::{Cluster, Draft, Drafted},
    deliberate::Deliberate,
    dice::Dice,
    generate,
    look::{Cell, Outcome},
    scenarios::{Answer, NAME, Scenario},
    settings::{Modes, Settings},
    sticky::{judged, union},
    twin::{Proxy, Twin},
};

/// How many times longer than usual one looks, look after look, at what differs: chance and a busy
/// machine are no difference.
const PATIENCE: [u32; 3] = [1, 3, 10];

/// Looks at what can come of a cell: of four endpoints one is missed once in 30 million times.
const LOOKS: usize = 5;

/// Both worlds.
pub(crate) struct Pair<'a> {
    server: &'a ApiServer<'a>,
    deliberate: &'a Deliberate,
    modes: Modes,
    settings: &'static Settings,
    theirs: Twin,
    ours: Twin,
}

/// A change of the node's zone.
fn zone(zone: Value) -> Value {
    json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } })
}

/// What was found.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) clusters: u64,
    pub(crate) answers: usize,
    /// How many answers each difference on purpose explains.
    pub(crate) explained: BTreeMap<String, usize>,
    pub(crate) mismatches: Vec<String>,
}

impl<'a> Pair<'a> {
    pub(crate) fn start(
        program: &ProbeProgram,
        (server, programs): (&'a ApiServer<'a>, &Programs),
        deliberate: &'a Deliberate,
        modes: Modes,
        settings: &'static Settings,
    ) -> Self {
        let own = objects::node(World::OWN_NODE, &[]);
        // Both fail for one of the pairs: before the first there is no Node, then there is one.
        let _ = server.client().patch(&own, &zone(Value::Null));
        let twin = |proxy| Twin::start(program, server, proxy, modes, settings).unwrap();
        let (theirs, ours) = (twin(Proxy::KubeProxy(programs)), twin(Proxy::Shunt));
        let addresses = [theirs.node().v4.into(), theirs.node().v6.into()];
        let mut node = objects::node(World::OWN_NODE, &addresses);
        node["metadata"]["labels"] = json!({});
        let _ = server.client().create(&node);
        let mut pair = Self { server, deliberate, modes, settings, theirs, ours };
        // What a Node is labelled with when kube-proxy starts, it may never notice: it listens for
        // that and says only then what is to be done about it. So it learns its zone later.
        pair.create(Vec::new()).delete(server.client()).unwrap();
        server.client().patch(&own, &zone("zone-a".into())).unwrap();
        pair
    }

    /// The Services of a random cluster.
    pub(crate) fn services(&self, dice: &mut Dice) -> Vec<Drafted> {
        generate::services(dice, &self.theirs.world)
    }

    /// Gives both the same cluster, and compares every answer.
    pub(crate) fn compare(&mut self, name: &str, services: Vec<Drafted>, report: &mut Report) {
        let mut cluster = self.create(services);
        report.clusters += 1;
        self.compare_all(name, &cluster.cells, report);
        let cells = cluster.sticky_cells();
        if !cells.is_empty() {
            let mut known = vec![Outcome::default(); cells.len()];
            for found in (0..LOOKS).flat_map(|_| self.look(&cells, PATIENCE[0])) {
                known = known.iter().zip(&found).map(|(a, b)| union(a, b)).collect();
            }
            cluster.make_sticky(self.server.client()).unwrap();
            self.until_served(&cluster);
            self.compare_sticky(name, &cells, &known, report);
        }
        cluster.delete(self.server.client()).unwrap();
    }

    /// Gives both a cluster in which it is known what has to come of what is sent. A scenario of a
    /// difference that does not show in these modes is a cluster like others.
    pub(crate) fn check(&mut self, scenario: &Scenario, report: &mut Report) {
        let cluster = self.create(scenario.drafts(&self.theirs.world));
        let difference = scenario.difference.map(|name| self.deliberate.named(name));
        if difference.is_none_or(|difference| difference.shows_in(self.modes)) {
            for answer in &scenario.answers {
                self.check_one(scenario, answer, &cluster.cells, report);
            }
        }
        self.compare_all(scenario.name, &cluster.cells, report);
        cluster.delete(self.server.client()).unwrap();
    }

    fn check_one(&self, scenario: &Scenario, answer: &Answer, cells: &[Cell], report: &mut Report) {
        let is_its = |cell: &&Cell| {
            (cell.client, cell.kind) == (answer.client, answer.kind)
                && Family::of(cell.to.ip()) == answer.family
                && [NAME.into(), Value::Null].contains(&cell.service["name"])
        };
        let cell = cells.iter().find(is_its).unwrap();
        let expected = [answer.theirs, answer.ours(self.modes)].map(Outcome::written);
        let [there, here] = &expected;
        let explains =
            |name| self.deliberate.named(name).explains(self.settings, cell, [there, here]);
        assert!(
            there == here || scenario.difference.is_some_and(explains),
            "{}: not the difference that is listed",
            scenario.name
        );
        let mut found = expected.clone();
        for patience in PATIENCE {
            found = self.look(slice::from_ref(cell), patience).map(|mut one| one.remove(0));
            if found == expected {
                return;
            }
        }
        let name = format!("{}, where {there} | {here} was expected", scenario.name);
        report.mismatches.push(self.mismatch(&name, cell, &found));
    }

    fn create(&mut self, services: Vec<Drafted>) -> Cluster {
        let draft = Draft::new(services, &self.theirs.world);
        let cluster = draft.create(self.server.client()).unwrap();
        self.until_served(&cluster);
        cluster
    }

    fn until_served(&mut self, cluster: &Cluster) {
        for twin in [&mut self.theirs, &mut self.ours] {
            twin.until_served(cluster.marker).unwrap();
        }
    }

    fn compare_all(&self, name: &str, cells: &[Cell], report: &mut Report) {
        report.answers += cells.len();
        let mut left: Vec<Cell> = cells.to_vec();
        for (turn, patience) in PATIENCE.into_iter().enumerate() {
            let outcomes = self.look(&left, patience);
            let is_last = turn + 1 == PATIENCE.len();
            left = self.unexplained(name, (left, outcomes), is_last, report);
        }
    }

    /// As [`Self::compare_all`], of cells with affinity; see [`judged`].
    fn compare_sticky(&self, name: &str, cells: &[Cell], known: &[Outcome], report: &mut Report) {
        report.answers += cells.len();
        for (turn, patience) in PATIENCE.into_iter().enumerate() {
            let [first, second] = [self.look(cells, patience), self.look(cells, patience)];
            let ([there, here], [there_again, here_again]) = (first, second);
            let there = judged(cells, known, [there, there_again]);
            let here = judged(cells, known, [here, here_again]);
            let is_last = turn + 1 == PATIENCE.len();
            let name = format!("{name}, affinity");
            // Who is sent where is seen at all cells of a Service together: all are looked at
            // again.
            let mut new = Report::default();
            let outcomes = (cells.to_vec(), [there, here]);
            if self.unexplained(&name, outcomes, is_last, &mut new).is_empty() || is_last {
                report.add(new);
                return;
            }
        }
    }

    /// The cells with different outcomes that nothing explains; after the last look they are
    /// mismatches.
    fn unexplained(
        &self,
        name: &str,
        (cells, [there, here]): (Vec<Cell>, [Vec<Outcome>; 2]),
        is_last: bool,
        report: &mut Report,
    ) -> Vec<Cell> {
        let mut left = Vec::new();
        for (cell, (there, here)) in cells.into_iter().zip(there.into_iter().zip(here)) {
            if there == here {
                continue;
            }
            let place = (self.modes, self.settings);
            let found = [there, here];
            let explanation = self.deliberate.explanation(place, &cell, [&found[0], &found[1]]);
            if let Some(explanation) = explanation {
                *report.explained.entry(explanation.to_owned()).or_default() += 1;
                continue;
            }
            if is_last {
                report.mismatches.push(self.mismatch(name, &cell, &found));
            }
            left.push(cell);
        }
        left
    }

    fn mismatch(&self, name: &str, cell: &Cell, [there, here]: &[Outcome; 2]) -> String {
        format!(
            "{name}, {} settings: {cell}\n  kube-proxy: {there}\n  Shunt:      {here}\n  {}",
            self.settings.name, cell.service
        )
    }

    /// What comes of the cells in both worlds.
    fn look(&self, cells: &[Cell], patience: u32) -> [Vec<Outcome>; 2] {
        if cells.is_empty() {
            return [Vec::new(), Vec::new()];
        }
        thread::scope(|scope| {
            let there = scope.spawn(|| self.theirs.look(cells, patience).unwrap());
            let here = self.ours.look(cells, patience).unwrap();
            [there.join().unwrap(), here]
        })
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        self.clusters += other.clusters;
        self.answers += other.answers;
        for (name, count) in other.explained {
            *self.explained.entry(name).or_default() += count;
        }
        self.mismatches.extend(other.mismatches);
    }
}
