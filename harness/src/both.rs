//! Two dataplanes as one: each is given everything, and what the first leaves the second serves.

use async_trait::async_trait;
use shunt_core::{
    Delta, LbBackend,
    backend::{
        Answer, ApplyReport, BackendError, Bell, Capabilities, InspectedService, Inspection, Probe,
        Verdict,
    },
};
use tokio::sync::Mutex;

/// Two dataplanes as one. One that cannot work here takes no part.
pub struct Both {
    first: Part,
    second: Part,
}

struct Part {
    // A backend need not be shareable between threads, and a future that borrows it has to be
    // movable to another one.
    backend: Mutex<Box<dyn LbBackend>>,
    works: bool,
}

impl Both {
    /// `first` serves what it can, and `second` the rest.
    #[must_use]
    pub fn new(first: Box<dyn LbBackend>, second: Box<dyn LbBackend>) -> Self {
        let [first, second] = [first, second].map(|backend| {
            let backend = Mutex::new(backend);
            Part { backend, works: true }
        });
        Self { first, second }
    }

    const fn parts(&self) -> [&Part; 2] {
        [&self.first, &self.second]
    }

    /// Those that take part.
    fn working(&mut self) -> impl Iterator<Item = &mut Part> {
        [&mut self.first, &mut self.second].into_iter().filter(|part| part.works)
    }
}

#[async_trait]
impl LbBackend for Both {
    async fn probe(&self) -> Probe {
        let mut probes = Vec::new();
        for part in self.parts() {
            probes.push(part.backend.lock().await.probe().await);
        }
        let can_work = probes.iter().any(|probe| probe.capabilities.is_some());
        let mut all = Probe::default();
        for mut probe in probes {
            if can_work && probe.capabilities.is_none() {
                // The other one does without.
                probe.facilities.iter_mut().for_each(|facility| facility.required = false);
            }
            all.facilities.append(&mut probe.facilities);
            if let Some(mut one) = probe.capabilities {
                let sum = all.capabilities.get_or_insert_with(Capabilities::default);
                sum.families.append(&mut one.families);
                sum.protocols.append(&mut one.protocols);
                sum.features.append(&mut one.features);
            }
        }
        all
    }

    async fn start(&mut self, bell: Bell) -> Result<(), BackendError> {
        let [first, second] = [
            self.first.backend.lock().await.probe().await,
            self.second.backend.lock().await.probe().await,
        ]
        .map(|probe| probe.capabilities.is_some());
        // Where none can work, both say why.
        (self.first.works, self.second.works) = (first || !second, second || !first);
        for part in self.working() {
            part.backend.get_mut().start(bell.clone()).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, delta: &Delta) -> ApplyReport {
        let mut reports = Vec::new();
        for part in self.working() {
            reports.push(part.backend.get_mut().apply(delta).await);
        }
        let left_by_all = |key| reports.iter().all(|report| report.left.contains_key(key));
        let mut all = ApplyReport::default();
        if let Some(last) = reports.last() {
            let left = last.left.iter().filter(|(key, _)| left_by_all(key));
            all.left = left.map(|(key, reason)| (key.clone(), reason.clone())).collect();
        }
        for report in reports {
            all.taken.extend(report.taken);
            all.failed.extend(report.failed);
            all.error = all.error.or(report.error);
        }
        all
    }

    async fn verify(&mut self) -> Verdict {
        let mut all = Verdict::default();
        for part in self.working() {
            let verdict = part.backend.get_mut().verify().await;
            all.problems.extend(verdict.problems);
            all.repaired.extend(verdict.repaired);
            all.reapply |= verdict.reapply;
        }
        all
    }

    async fn inspect(&self) -> Result<Inspection, BackendError> {
        let mut all = Inspection::default();
        for part in self.parts() {
            let Inspection { services, tables, .. } = part.backend.lock().await.inspect().await?;
            all.tables.extend(tables);
            for service in services {
                match all.services.iter_mut().find(|known| known.key == service.key) {
                    Some(known) => complete(known, service),
                    None => all.services.push(service),
                }
            }
        }
        all.services.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError> {
        let first = self.first.backend.get_mut().cleanup().await;
        let second = self.second.backend.get_mut().cleanup().await;
        let mut removed = first?;
        removed.extend(second?);
        Ok(removed)
    }
}

/// What the first leaves is as the second has it.
fn complete(known: &mut InspectedService, other: InspectedService) {
    known.affinity_seconds = known.affinity_seconds.or(other.affinity_seconds);
    for frontend in other.frontends {
        match known.frontends.iter_mut().find(|known| known.frontend == frontend.frontend) {
            Some(known) if known.answer == Answer::Left => *known = frontend,
            Some(_) => {}
            None => known.frontends.push(frontend),
        }
    }
    known.frontends.sort_by(|a, b| a.frontend.cmp(&b.frontend));
}
