//! A backend takes at least what the table says that it can, and probing leaves no trace.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use shunt_core::backend::Inspection;

use super::Stage;

/// What each backend must be able to take, by kernel.
const TABLE: &str = include_str!("../../testdata/capabilities.json");

/// One row: from this kernel on, at least this.
#[derive(Debug, Deserialize)]
struct Row {
    kernel: String,
    families: Vec<String>,
    protocols: Vec<String>,
    features: Vec<String>,
    /// Whether packets may be lost, and connections with them, while something changes: kernels
    /// before the fix of set lookups can miss an element during a commit.
    #[serde(default)]
    may_miss_during_changes: bool,
}

/// Whether this kernel may lose packets that such a backend serves while something changes.
pub(super) fn may_miss_during_changes(stage: &Stage<'_>) -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("no kernel release")?;
    let table: BTreeMap<String, Vec<Row>> = serde_json::from_str(TABLE)?;
    let row = table.get(stage.name()).and_then(|rows| row(rows, &release));
    Ok(row.is_some_and(|row| row.may_miss_during_changes))
}

/// Compares with the table; looks for traces.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("no kernel release")?;
    let table: BTreeMap<String, Vec<Row>> = serde_json::from_str(TABLE)?;
    let claimed = stage.capabilities();
    if let Some(rows) = table.get(stage.name()) {
        let row = row(rows, &release).context("the table has no row for this kernel")?;
        let families: Vec<_> = claimed.families.iter().map(ToString::to_string).collect();
        let protocols: Vec<_> = claimed.protocols.iter().map(ToString::to_string).collect();
        let features: Vec<_> = claimed.features.iter().map(|f| format!("{f:?}")).collect();
        for (needed, claimed) in
            [(&row.families, families), (&row.protocols, protocols), (&row.features, features)]
        {
            let missing: Vec<_> = needed.iter().filter(|name| !claimed.contains(name)).collect();
            ensure!(missing.is_empty(), "{missing:?} is to be taken on {release}");
        }
    }
    for facility in &stage.probe().facilities {
        let told = !facility.how.is_empty() && !facility.lost.is_empty();
        ensure!(told, "{} does not say how it was tried and what is lost", facility.name);
        ensure!(facility.present || !facility.required, "{} is absent", facility.name);
    }
    ensure!(!stage.site().pin_path.exists(), "the probe left {:?}", stage.site().pin_path);
    let inspection = stage.inspect()?;
    ensure!(inspection.services == Inspection::default().services, "the probe left {inspection:?}");
    Ok(())
}

/// The row of the newest kernel that is not newer than `release`.
fn row<'a>(rows: &'a [Row], release: &str) -> Option<&'a Row> {
    let here = version(release);
    rows.iter().filter(|row| version(&row.kernel) <= here).max_by_key(|row| version(&row.kernel))
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_row_that_is_not_newer_counts() {
        let table: BTreeMap<String, Vec<Row>> = serde_json::from_str(TABLE).unwrap();
        let check = |release, expected: Option<&str>| {
            let row = row(&table["connect"], release).map(|row| row.kernel.as_str());
            assert_eq!(row, expected, "{release}");
        };
        check("4.19.0", None);
        check("5.10.0-30-amd64", Some("5.10"));
        check("5.9.16", None);
        check("5.17.99", Some("5.10"));
        check("5.18.0-rc1", Some("5.18"));
        check("6.18.44-fc", Some("5.18"));
    }
}
