//! What there is between `start` and the end: the tables as they are known, and how they get to be
//! what is desired.

use std::sync::Arc;

use shunt_core::{
    backend::{ApplyReport, BackendError, LeftReason, Verdict},
    model::Family,
    plan::Delta,
};

use super::{
    dump::{Found, FoundElement, FoundRules},
    netlink::{Batch, Change, Kernel, KernelError, Structure},
    options::{Detector, NftablesOptions},
    ruleset::{Shape, Source},
    state::{Prints, Table},
};

/// The tables, and the kernel that has them.
pub(super) struct Running {
    kernel: Arc<dyn Kernel>,
    options: NftablesOptions,
    families: Vec<Served>,
}

/// The table of a family.
struct Served {
    family: Family,
    table: Table,
    /// Whether the kernel has what the table says, as far as the agent knows.
    is_known: bool,
    /// The rules as the kernel wrote them down when they were written: not byte by byte as they
    /// were sent to it.
    rules: FoundRules,
    /// How many elements the table has.
    elements: i64,
    /// How many clients it remembered at the last look.
    remembered: u64,
}

impl Running {
    /// Nothing is known of the tables yet.
    pub(super) fn new(
        kernel: Arc<dyn Kernel>,
        options: NftablesOptions,
        families: &[Family],
    ) -> Self {
        let served = |family: &Family| Served {
            family: *family,
            table: Table::new(shape(&options, *family), options.detector.clone()),
            is_known: false,
            rules: FoundRules::new(),
            elements: 0,
            remembered: 0,
        };
        let families = families.iter().map(served).collect();
        Self { kernel, options, families }
    }

    /// Brings a Delta into the tables.
    pub(super) async fn apply(&mut self, delta: &Delta) -> ApplyReport {
        let mut report = ApplyReport::default();
        if let Err(error) = self.wait_for_node(delta) {
            report.error = Some(error);
            return report;
        }
        let here: Vec<Family> = self.families.iter().map(|served| served.family).collect();
        for key in delta.service_ports.keys().filter(|key| !here.contains(&key.family)) {
            report.left.insert(key.clone(), LeftReason::Family(key.family));
        }
        for served in &mut self.families {
            let table = self.options.table_name(served.family);
            let result = served.apply(&*self.kernel, delta).await;
            served.table.meter();
            served.meter(&self.options);
            if let Err(cause) = result {
                let error = BackendError::new(format!("write table {table}"), cause);
                report.error.get_or_insert(error);
            }
        }
        report
    }

    /// Where pods are recognised by the Node's CIDRs, nothing can be said about them before there
    /// are any.
    fn wait_for_node(&self, delta: &Delta) -> Result<(), BackendError> {
        let waits = self.options.detector == Detector::NodeCidr
            && match &delta.node {
                Some(node) => node.pod_cidrs.is_empty(),
                None => self.families.iter().all(|served| served.table.pod_cidrs_are_empty()),
            };
        if waits {
            let cause = "the Node has no podCIDRs yet, by which local pods are recognised";
            return Err(BackendError::new("apply", cause));
        }
        Ok(())
    }

    /// The number of the last Delta of each family whose leftovers wait for a grace period.
    pub(super) fn awaits(&self) -> Vec<(Family, u64)> {
        let known = self.families.iter().filter(|served| served.is_known);
        known.filter_map(|served| Some((served.family, served.table.awaits()?))).collect()
    }

    /// Deletes what nothing leads to since before a grace period that is over.
    pub(super) async fn sweep(&mut self, ages: &[(Family, u64)]) {
        for (family, age) in ages {
            let served = self.families.iter_mut().find(|served| served.family == *family);
            let Some(served) = served.filter(|served| served.is_known) else { continue };
            let mut sweep = served.table.sweep(*age);
            let batches = std::mem::take(&mut sweep.batches);
            match write(&*self.kernel, *family, &batches).await {
                Ok(()) => {
                    served.table.swept(sweep);
                    served.count(&batches);
                }
                // Someone may have deleted a leftover before us.
                Err(failure) => {
                    let error = failure.error;
                    tracing::warn!(%error, "leftovers stay until the table is read again");
                    cleanup_failed(*family);
                    served.is_known = false;
                }
            }
        }
    }

    /// Whether a write was cut short, so that nobody knows what the kernel has.
    pub(super) fn is_lost(&self) -> bool {
        self.families.iter().any(|served| !served.is_known)
    }

    /// Tells the metrics how full the tables are.
    pub(super) async fn meter(&mut self) {
        for served in &mut self.families {
            served.count_remembered(&*self.kernel).await;
            served.meter(&self.options);
        }
    }

    /// Compares the tables with what is desired, and writes the difference.
    pub(super) async fn verify(&mut self, verdict: &mut Verdict) {
        for served in &mut self.families {
            let table = self.options.table_name(served.family);
            if let Err(error) = served.verify(&*self.kernel, &table, verdict).await {
                let cause = std::error::Error::source(&error);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                verdict.problems.push(format!("Table {table} cannot be checked: {error}{cause}."));
            }
        }
    }
}

impl Served {
    fn count(&mut self, batches: &[Batch]) {
        let changes = batches.iter().flat_map(|batch| &batch.changes);
        let of = |change: &Change| i64::from(change.put.is_some()) - i64::from(change.remove);
        self.elements += changes.map(of).sum::<i64>();
    }

    /// Notes the rules as the kernel has them, if batches changed any. Until they are read they
    /// are not known, and only counted.
    async fn note_rules(&mut self, kernel: &dyn Kernel, batches: &[Batch]) {
        let changes = |what: &Structure| matches!(what, Structure::Rules(..));
        if batches.iter().any(|batch| batch.before.iter().chain(&batch.after).any(changes)) {
            self.rules = kernel.rules(self.family).await.unwrap_or_default();
        }
    }

    /// Tells the metrics how full the tables are.
    fn meter(&self, options: &NftablesOptions) {
        gauges(self.family, "packet_elements", self.elements as f64, u32::MAX);
        gauges(self.family, "packet_affinity", self.remembered as f64, options.affinity_size);
    }

    /// Counts the clients that packets made the kernel remember. It has to be asked for them all,
    /// so nobody asks where no Service has affinity.
    async fn count_remembered(&mut self, kernel: &dyn Kernel) {
        self.remembered = match self.table.has_affinity() {
            // What cannot be read now is read at the next look.
            true => kernel.remembered(self.family).await.unwrap_or(self.remembered),
            false => 0,
        };
    }

    async fn apply(&mut self, kernel: &dyn Kernel, delta: &Delta) -> Result<(), KernelError> {
        if self.is_known && !delta.complete {
            let mut staged = self.table.stage(delta);
            let batches = std::mem::take(&mut staged.batches);
            let written = write(kernel, self.family, &batches).await;
            return match written {
                Ok(()) => {
                    self.table.commit(staged);
                    self.count(&batches);
                    self.note_rules(kernel, &batches).await;
                    Ok(())
                }
                Err(failure) => {
                    self.is_known = failure.is_whole;
                    Err(failure.error)
                }
            };
        }
        self.adopt(kernel, delta).await.map(drop)
    }

    /// Reads the table and writes what is different.
    async fn adopt(&mut self, kernel: &dyn Kernel, delta: &Delta) -> Result<(), KernelError> {
        let found = kernel.read(self.family).await?;
        if found.is_none() && delta.complete {
            return self.fill(kernel, delta).await;
        }
        let (mut table, mut staged) = self.table.adopt(found.as_ref(), delta);
        let batches = std::mem::take(&mut staged.batches);
        self.is_known = false;
        write(kernel, self.family, &batches).await.map_err(|failure| failure.error)?;
        table.commit(staged);
        self.table = table;
        self.is_known = true;
        let found = found.filter(|found| found.misshapen.is_empty());
        self.elements = found.map_or(0, |found| found.elements.len() as i64);
        self.count(&batches);
        self.note_rules(kernel, &batches).await;
        Ok(())
    }

    /// Makes the table, where there is none, and fills it a part at a time: all elements at once
    /// are several times what is kept of them. No packet comes by before all is there.
    async fn fill(&mut self, kernel: &dyn Kernel, delta: &Delta) -> Result<(), KernelError> {
        let failed = |failure: Failure| failure.error;
        self.is_known = false;
        self.elements = 0;
        // What is known stays until all is written.
        let mut table = self.table.emptied();
        let (before, after) = table.foundation();
        let first = [Batch { before, ..Batch::default() }];
        write(kernel, self.family, &first).await.map_err(failed)?;
        let mut rest = parts(delta);
        let node = delta.node.as_ref().unwrap_or_else(|| self.table.node());
        let mut next = Some(table.stage_node(node));
        while let Some(mut staged) = next {
            let batches = std::mem::take(&mut staged.batches);
            write(kernel, self.family, &batches).await.map_err(failed)?;
            table.commit(staged);
            self.count(&batches);
            next = rest.next().map(|part| table.stage(&part));
        }
        let last = [Batch { after, ..Batch::default() }];
        write(kernel, self.family, &last).await.map_err(failed)?;
        self.table = table;
        self.is_known = true;
        self.note_rules(kernel, &last).await;
        Ok(())
    }

    /// What the table has, but for its elements, and what is other than it is desired.
    async fn look(&self, kernel: &dyn Kernel) -> Result<(Option<Found>, Vec<String>), KernelError> {
        let mut prints = Prints::default();
        let mut note = |key, element: FoundElement| prints.note(&key, &element.data);
        let found = kernel.scan(self.family, &mut note).await?;
        let faults = self.table.faults(found.as_ref(), &prints, &self.rules);
        Ok((found, faults))
    }

    async fn verify(
        &mut self,
        kernel: &dyn Kernel,
        name: &str,
        verdict: &mut Verdict,
    ) -> Result<(), KernelError> {
        if !self.is_known {
            verdict.reapply = true;
            return Ok(());
        }
        let (mut found, mut faults) = self.look(kernel).await?;
        if !faults.is_empty() {
            // What is read while the kernel makes a grown set's hash larger may lack elements.
            (found, faults) = self.look(kernel).await?;
        }
        for foreign in found.iter().flat_map(|found| &found.foreign) {
            tracing::warn!(table = name, "{foreign} in our table is not ours");
        }
        if faults.is_empty() {
            return Ok(());
        }
        let delta = self.table.whole();
        self.adopt(kernel, &delta).await?;
        verdict
            .repaired
            .push(format!("Table {name} was changed by others: {}.", faults.join(", ")));
        Ok(())
    }
}

/// ServicePorts, or ClusterIPs, that are written together where a table is filled.
#[cfg(not(test))]
const TOGETHER: usize = 1024;
/// In tests nearly every fill is cut.
#[cfg(test)]
const TOGETHER: usize = 2;

/// The ClusterIPs and ServicePorts of a Delta in parts.
fn parts(delta: &Delta) -> impl Iterator<Item = Delta> {
    let mut addresses = delta.cluster_ips.iter();
    let mut ports = delta.service_ports.iter();
    std::iter::from_fn(move || {
        let mut part = Delta::default();
        part.cluster_ips = addresses.by_ref().take(TOGETHER).map(|(ip, is)| (*ip, *is)).collect();
        let some = ports.by_ref().take(TOGETHER);
        part.service_ports = some.map(|(key, port)| (key.clone(), port.clone())).collect();
        (!part.is_empty()).then_some(part)
    })
}

/// Leftovers could not be deleted.
pub(super) fn cleanup_failed(family: Family) {
    let name = "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total";
    metrics::counter!(name, "ip_family" => family.to_string()).increment(1);
}

fn gauges(family: Family, table: &'static str, used: f64, size: u32) {
    let family = family.to_string();
    metrics::gauge!("shunt_table_used", "table" => table, "ip_family" => family.clone()).set(used);
    metrics::gauge!("shunt_table_size", "table" => table, "ip_family" => family)
        .set(f64::from(size));
}

/// A batch was not written.
struct Failure {
    error: KernelError,
    /// Whether nothing at all was written.
    is_whole: bool,
}

async fn write(kernel: &dyn Kernel, family: Family, batches: &[Batch]) -> Result<(), Failure> {
    for (index, batch) in batches.iter().enumerate() {
        if let Err(error) = kernel.commit(family, batch).await {
            let is_whole = index == 0 && error.is_whole();
            return Err(Failure { error, is_whole });
        }
    }
    Ok(())
}

/// What the rules of a family depend on.
fn shape(options: &NftablesOptions, family: Family) -> Shape {
    let local_pod = match &options.detector {
        Detector::None => None,
        Detector::ClusterCidr(cidrs) => {
            cidrs.iter().any(|cidr| Family::of(cidr.network()) == family).then_some(Source::Address)
        }
        Detector::NodeCidr => Some(Source::Address),
        Detector::BridgeInterface(name) => {
            // The kernel compares the whole of what an interface's name can be.
            let mut whole = name.clone().into_bytes();
            whole.resize(16, 0);
            Some(Source::Interface(whole))
        }
        Detector::InterfacePrefix(prefix) => Some(Source::Interface(prefix.clone().into_bytes())),
    };
    Shape {
        family,
        masquerade_all: options.masquerade_all,
        mark: 1_u32.checked_shl(u32::from(options.masquerade_bit)).unwrap_or(1 << 14),
        local_pod,
    }
}
