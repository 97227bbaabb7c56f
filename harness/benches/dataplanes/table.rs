//! The figures, as a table that can be pasted into a note.

use std::{fmt::Write as _, fs, io::Write as _, time::Duration};

use anyhow::Result;

/// Rows, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Adds a row: what was measured, the figure, what it is compared with, and the goal.
    pub(crate) fn row(&mut self, what: &str, figure: &str, against: &str, goal: &str) {
        self.rows.push([what, figure, against, goal].map(str::to_owned));
    }

    /// Prints machine, command and rows.
    pub(crate) fn print(&self) -> Result<()> {
        let header = ["measured", "figure", "compared with", "goal"].map(str::to_owned);
        let rule = ["---", "---", "---", "---"].map(str::to_owned);
        let mut text = format!("\n{}\n\n", machine());
        for row in [&header, &rule].into_iter().chain(&self.rows) {
            // A String takes whatever is written to it.
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
    }
}

/// Which machine, kernel and command.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!(
        "{} × {}, Linux {}; cargo xtask bench",
        cpus.matches("processor\t").count(),
        model.unwrap_or("unknown processor"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

/// A duration in the unit that suits it.
pub(crate) fn time(duration: Duration) -> String {
    match duration.as_nanos() {
        nanoseconds @ 0..10_000 => format!("{nanoseconds} ns"),
        10_000..1_000_000 => format!("{:.1} µs", duration.as_secs_f64() * 1e6),
        _ => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
    }
}

/// The value below which `share` of the values lie; sorts.
pub(crate) fn quantile<T: Copy + Ord + Default>(values: &mut [T], share: f64) -> T {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}
