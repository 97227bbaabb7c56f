//! Bringing a Delta into the tables.
//!
//! The order of writes is what makes each single one harmless: frontends that go are deleted first;
//! then, for each ServicePort, runs, list words, owners, its name, and last the frontends that are
//! new or move; at the end the lists that nothing names any more are retired.

use std::sync::Arc;

use shunt_core::{
    backend::{ApplyReport, LeftReason},
    plan::{Delta, ServicePort, ServicePortKey},
};
use shunt_ebpf::tables::{List, Target};
use smallvec::SmallVec;

use super::{
    super::{
        encode::{self, Content, Use},
        slot::Slot,
        sys::{Hash, Kernel},
    },
    Failure, Record, Records, Tables,
    batch::Batch,
    frontends::{Named, Writes, table_name},
    services::{encode_name, left_code},
};

/// ServicePorts whose names and frontends are written together: enough for a system call to cost
/// nothing, few enough for the buffers to stay small.
const TOGETHER: usize = 1024;

/// One ServicePort of a Delta. A first Delta has one for each that there is, so it is small.
struct Job {
    key: ServicePortKey,
    /// Where its record is, if it has one. No record is removed before the last job is done.
    place: Option<usize>,
    /// What is desired; `None` for nothing.
    port: Option<Arc<ServicePort>>,
    /// Whether it comes from the Delta, and not from an earlier one.
    asked: bool,
    /// Whether it is gone, but a frontend that now belongs to another still names its list.
    lingers: bool,
    /// What is written of it. It is there from when it is needed until it is written.
    work: Option<Box<Work>>,
    failure: Option<Box<Failure>>,
}

/// What is written of a ServicePort.
#[derive(Default)]
struct Work {
    frontends: encode::Frontends,
    /// The lists that its frontends are to name.
    lists: Chosen,
    /// Lists that were given out for it and that no frontend names yet.
    fresh: SmallVec<[u32; 2]>,
    /// Why the contents of its lists are left to others.
    left: Option<LeftReason>,
}

impl<K: Kernel> Tables<K> {
    /// Brings a Delta into the tables and says what became of each ServicePort.
    pub(in super::super) fn apply(&mut self, delta: &Delta) -> ApplyReport {
        self.collect(false);
        let mut report = ApplyReport::default();
        let mut jobs = self.jobs(delta);
        self.claim(&mut jobs);
        self.remove_frontends(&mut jobs);
        for together in jobs.chunks_mut(TOGETHER) {
            self.write_lists(together);
            self.write_names(together);
            self.write_frontends_of(together);
            self.undo_full(together);
            for job in together.iter_mut().filter(|job| job.port.is_some()) {
                self.finish(job, &mut report);
            }
        }
        self.remove_names(&mut jobs);
        let mut gone = Vec::new();
        for job in jobs.iter_mut().filter(|job| job.port.is_none()) {
            self.finish_gone(job, &mut report, &mut gone);
        }
        for key in &gone {
            self.records.swap_remove(key);
        }
        if let Some(node) = &delta.node {
            report.error = self.apply_node(node).err();
        }
        self.sweep();
        if let Err(cause) = self.epoch.settle(&mut self.kernel) {
            report.error = Some(Failure::writing("CONTROL", cause).into_error());
        }
        report
    }

    /// What is to be done: the Delta, what a full state does not name, and what was left for lack
    /// of room if there may be room now.
    fn jobs(&mut self, delta: &Delta) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(delta.service_ports.len());
        for (key, port) in &delta.service_ports {
            if !self.full.is_empty() {
                self.full.remove(key);
            }
            jobs.push(Job::new(key.clone(), port.clone(), true));
        }
        if delta.complete {
            let more = jobs.len().saturating_sub(self.records.len());
            self.records.reserve_exact(more);
            self.frontends.reserve(jobs.len());
            self.lists.reserve(more);
            let gone = self.records.keys().filter(|key| !delta.service_ports.contains_key(*key));
            self.lingering.clear();
            jobs.extend(gone.map(|key| Job::new(key.clone(), None, true)));
            self.full.clear();
        }
        for key in self.lingering.drain().filter(|key| !delta.service_ports.contains_key(key)) {
            jobs.push(Job::new(key, None, false));
        }
        if std::mem::take(&mut self.freed) {
            jobs.extend(self.full.drain().map(|(key, port)| Job::new(key, Some(port), false)));
        }
        jobs
    }

    /// Numbers new ServicePorts, and gives slots that change hands to their new owners, so that
    /// the former ones do not delete them.
    fn claim(&mut self, jobs: &mut [Job]) {
        let is_first = self.records.is_empty();
        for job in jobs {
            let found = self.records.get_full(&job.key);
            let found = found.map(|(place, _, record)| (place, record.service));
            if job.port.is_none() {
                job.place = found.map(|(place, _)| place);
                continue;
            }
            let (place, service) = found.unwrap_or_else(|| self.number(&job.key));
            job.place = Some(place);
            // At a first fill no slot changes hands, and nobody needs to know them all at once.
            if !is_first {
                for served in &job.work().frontends.slots {
                    self.frontends.claim(served.slot, service);
                }
            }
        }
    }

    /// Gives a ServicePort its number; returns the place of its record and the number.
    fn number(&mut self, key: &ServicePortKey) -> (usize, u32) {
        let service = self.next_service;
        self.next_service += 1;
        let record = Record { service, named: None, slots: Box::default() };
        (self.records.insert_full(key.clone(), record).0, service)
    }

    fn record(&self, job: &Job) -> Option<&Record> {
        self.records.get_index(job.place?).map(|(_, record)| record)
    }

    /// Deletes the frontends that ServicePorts have and shall not have.
    fn remove_frontends(&mut self, jobs: &mut [Job]) {
        let mut leaving = Vec::new();
        for (index, job) in jobs.iter().enumerate() {
            let Some(record) = self.record(job) else { continue };
            let gone = record.slots.iter().filter(|slot| !job.wants(**slot));
            let own = gone.filter(|slot| self.belongs(**slot, record.service));
            leaving.extend(own.map(|slot| (*slot, index)));
        }
        if leaving.is_empty() {
            return;
        }
        self.delete_frontends(leaving, |index, slot, result| {
            if let (Err(cause), Some(job)) = (result, jobs.get_mut(index)) {
                job.fail(Failure::Kernel(table_name(slot), cause));
            }
        });
    }

    fn belongs(&self, slot: Slot, service: u32) -> bool {
        self.frontends.get(slot).is_some_and(|named| named.service == service)
    }

    /// Writes what changes in the lists of ServicePorts, and remembers what changes in their
    /// frontends.
    fn write_lists(&mut self, jobs: &mut [Job]) {
        for job in jobs.iter_mut().filter(|job| job.failure.is_none()) {
            let Some(port) = job.port.clone() else { continue };
            let work = job.work();
            let contents = Content::of(&port, &work.frontends, self.can_refuse);
            work.left = contents.iter().flatten().find_map(Content::left).cloned();
            let affinity_seconds = port.affinity_seconds.unwrap_or(0);
            let Some(record) = self.record(job) else { continue };
            let service = record.service;
            for (list, content) in Use::ALL.into_iter().zip(contents) {
                let Some(content) = content else { continue };
                let owner = List::owner(service, affinity_seconds);
                let result = self.write_list(job.work(), list, &content, owner);
                if let Err(failure) = result {
                    job.fail(failure);
                    break;
                }
            }
        }
    }

    /// Writes one list of a ServicePort: in place where only the frontends that it shall serve
    /// name it, else to a new one, so that no frontend ever shows another's content.
    fn write_list(
        &mut self,
        work: &mut Work,
        list: Use,
        content: &Content,
        owner: u64,
    ) -> Result<(), Failure> {
        let service = List { word: 0, owner }.service();
        let slots = || work.frontends.slots.iter().filter(move |served| served.from == list);
        let found = slots().find_map(|served| self.list_of(served.slot, service));
        let kept = match found {
            Some(number) => {
                let of_number = |slot| self.list_of(slot, service) == Some(number);
                let own = slots().filter(|served| of_number(served.slot)).count();
                let alone = own == self.lists.named(number) as usize;
                (alone || self.says(number, content)?).then_some(number)
            }
            None => None,
        };
        let number = match kept {
            Some(number) => number,
            None => self.new_list()?,
        };
        if kept.is_none() {
            work.fresh.push(number);
        }
        self.say(number, content, owner)?;
        work.lists.set(list, number);
        Ok(())
    }

    /// Writes the names of ServicePorts that are new or left for another reason than before.
    fn write_names(&mut self, jobs: &mut [Job]) {
        let mut names = Batch::new(Hash::Services);
        for (index, job) in jobs.iter_mut().enumerate().filter(|(_, job)| job.is_to_serve()) {
            let Some(record) = self.record(job) else { continue };
            let code = job.left_code();
            if record.named == Some(code) {
                continue;
            }
            match encode_name(&job.key, code) {
                Some(name) => names.put(record.service, name, index),
                None => job.fail(Failure::Unnameable),
            }
        }
        names.update(&mut self.kernel, |index, result| {
            let Some(job) = jobs.get_mut(index) else { return };
            match result {
                Ok(()) => {
                    let code = job.left_code();
                    note_name(&mut self.records, &mut self.names, job.place, Some(code));
                }
                Err(cause) => job.fail(Failure::writing("SERVICES", cause)),
            }
        });
    }

    /// Deletes the names of ServicePorts that are gone. Last of all: where a frontend changes hands
    /// the former owner's list serves until the new one's does, and a take-over in between must
    /// find out whose it is.
    fn remove_names(&mut self, jobs: &mut [Job]) {
        let mut names = Batch::new(Hash::Services);
        for (index, job) in jobs.iter_mut().enumerate().filter(|(_, job)| job.is_to_go()) {
            let Some(record) = self.record(job) else { continue };
            job.lingers =
                record.slots.iter().any(|slot| self.list_of(*slot, record.service).is_some());
            if record.named.is_some() && !job.lingers {
                names.drop(record.service, index);
            }
        }
        self.freed |= !names.is_empty();
        names.delete(&mut self.kernel, |index, result| {
            let Some(job) = jobs.get_mut(index) else { return };
            match result {
                Ok(()) => note_name(&mut self.records, &mut self.names, job.place, None),
                Err(cause) => job.fail(Failure::writing("SERVICES", cause)),
            }
        });
    }

    /// Writes the frontends that are new or name another list than before.
    fn write_frontends_of(&mut self, jobs: &mut [Job]) {
        let mut writes = Writes::new();
        for (index, job) in jobs.iter().enumerate().filter(|(_, job)| job.is_to_serve()) {
            let Some(record) = self.record(job) else { continue };
            for served in job.served() {
                let Some(list) = job.list(served.from) else { continue };
                let target = Target::new(served.kind, list);
                if !self.has(served.slot, target) {
                    let named = Named { target, service: record.service };
                    writes.put(served.slot, target, (index, named));
                }
            }
        }
        self.write_frontends(writes, |slot, index: usize, result| {
            if let (Err(cause), Some(job)) = (result, jobs.get_mut(index)) {
                job.fail(Failure::writing(table_name(slot), cause));
            }
        });
    }

    /// Takes back what was written of ServicePorts for which there is no room: half of one would
    /// be served here and half elsewhere.
    fn undo_full(&mut self, jobs: &mut [Job]) {
        let mut leaving = Vec::new();
        for (index, job) in jobs.iter().enumerate().filter(|(_, job)| job.is_given_up()) {
            let Some(record) = self.record(job) else { continue };
            let slots = job.served().iter().map(|served| &served.slot);
            let own =
                slots.chain(&record.slots).filter(|slot| self.belongs(**slot, record.service));
            leaving.extend(own.map(|slot| (*slot, index)));
        }
        self.delete_frontends(leaving, |index, slot, result| {
            if let (Err(cause), Some(job)) = (result, jobs.get_mut(index)) {
                job.fail(Failure::Kernel(table_name(slot), cause));
            }
        });
        let mut names = Batch::new(Hash::Services);
        for job in jobs.iter().filter(|job| job.is_given_up()) {
            let Some(record) = self.record(job) else { continue };
            let code = left_code(Some(&LeftReason::Full("")));
            let name = encode_name(&job.key, code).filter(|_| record.named != Some(code));
            name.into_iter().for_each(|name| names.put(record.service, name, job.place));
        }
        names.update(&mut self.kernel, |place, result| {
            // A name says why to people; without room for it they find the reason in the log.
            if result.is_ok() {
                let code = left_code(Some(&LeftReason::Full("")));
                note_name(&mut self.records, &mut self.names, place, Some(code));
            }
        });
    }

    /// Notes what became of a ServicePort that is to be served, for the engine and for the next
    /// Delta.
    fn finish(&mut self, job: &mut Job, report: &mut ApplyReport) {
        let Work { frontends, fresh, left, .. } = *job.work.take().unwrap_or_default();
        for list in fresh {
            if self.lists.named(list) == 0 {
                self.orphans.push(list);
            }
        }
        let wanted = frontends.slots.iter().map(|served| served.slot);
        let Some(port) = &job.port else { return };
        let Some(failure) = job.failure.take() else {
            let slots: Box<[Slot]> = wanted.collect();
            if let Some(record) = record_mut(&mut self.records, job.place)
                && record.slots != slots
            {
                record.slots = slots;
            }
            if let Some(reason) = frontends.left.or(left) {
                report.left.insert(job.key.clone(), reason);
            } else if !job.asked {
                report.taken.push(job.key.clone());
            }
            return;
        };
        match *failure {
            Failure::Full(table) => {
                if let Some(record) = record_mut(&mut self.records, job.place) {
                    record.slots = Box::default();
                }
                self.full.insert(job.key.clone(), Arc::clone(port));
                if job.asked {
                    tracing::warn!(service = %job.key, table, "left to others: the table is full");
                    report.left.insert(job.key.clone(), LeftReason::Full(table));
                }
            }
            Failure::Unnameable => {
                report.left.insert(job.key.clone(), LeftReason::NameTooLong);
            }
            failure @ Failure::Kernel(..) => {
                if let Some(record) = record_mut(&mut self.records, job.place) {
                    let mut slots = record.slots.to_vec();
                    slots.extend(wanted.filter(|slot| !record.slots.contains(slot)));
                    record.slots = slots.into();
                }
                if job.asked {
                    report.failed.insert(job.key.clone(), failure.into_error());
                } else {
                    self.full.insert(job.key.clone(), Arc::clone(port));
                }
            }
        }
    }

    /// Notes what became of a ServicePort that is to go.
    fn finish_gone(
        &mut self,
        job: &mut Job,
        report: &mut ApplyReport,
        gone: &mut Vec<ServicePortKey>,
    ) {
        let key = job.key.clone();
        match job.failure.take() {
            None if job.lingers => drop(self.lingering.insert(key)),
            None => gone.push(key),
            Some(failure) => drop(report.failed.insert(key, failure.into_error())),
        }
    }
}

fn record_mut(records: &mut Records, place: Option<usize>) -> Option<&mut Record> {
    records.get_index_mut(place?).map(|(_, record)| record)
}

/// Notes with which code a ServicePort's name is in the kernel, `None` if it is not.
fn note_name(records: &mut Records, names: &mut usize, place: Option<usize>, named: Option<u8>) {
    let Some(record) = record_mut(records, place) else { return };
    *names += usize::from(named.is_some());
    *names -= usize::from(record.named.is_some());
    record.named = named;
}

impl Job {
    fn new(key: ServicePortKey, port: Option<Arc<ServicePort>>, asked: bool) -> Self {
        Self { key, place: None, port, asked, lingers: false, work: None, failure: None }
    }

    /// What is written of it, which is found out now if it was not yet.
    fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_with(|| {
            let frontends = self.port.as_ref().map(|port| encode::Frontends::of(&self.key, port));
            Box::new(Work { frontends: frontends.unwrap_or_default(), ..Work::default() })
        })
    }

    fn served(&self) -> &[encode::Served] {
        self.work.as_ref().map_or(&[], |work| &work.frontends.slots)
    }

    fn list(&self, list: Use) -> Option<u32> {
        self.work.as_ref()?.lists.get(list)
    }

    fn wants(&self, slot: Slot) -> bool {
        self.served().iter().any(|served| served.slot == slot)
    }

    fn fail(&mut self, failure: Failure) {
        self.failure = Some(Box::new(failure));
    }

    const fn is_to_serve(&self) -> bool {
        self.port.is_some() && self.failure.is_none()
    }

    const fn is_to_go(&self) -> bool {
        self.port.is_none() && self.failure.is_none()
    }

    /// Whether it is to be left whole for a reason that a retry does not change.
    fn is_given_up(&self) -> bool {
        matches!(self.failure.as_deref(), Some(Failure::Full(_) | Failure::Unnameable))
    }

    fn left_code(&self) -> u8 {
        let frontends = self.work.as_ref().map(|work| &work.frontends);
        left_code(frontends.filter(|it| it.is_left_whole()).and_then(|it| it.left.as_ref()))
    }
}

/// The lists that were chosen for the two uses.
#[derive(Clone, Copy, Default)]
struct Chosen([Option<u32>; 2]);

impl Chosen {
    const fn get(self, list: Use) -> Option<u32> {
        let [cluster, local] = self.0;
        match list {
            Use::Cluster => cluster,
            Use::Local => local,
        }
    }

    const fn set(&mut self, list: Use, number: u32) {
        let [cluster, local] = &mut self.0;
        match list {
            Use::Cluster => *cluster = Some(number),
            Use::Local => *local = Some(number),
        }
    }
}
