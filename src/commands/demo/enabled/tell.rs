//! What the demo says.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;

use crate::output::print;

/// Begins an act.
pub(super) fn title(number: u32, text: &str) -> Result<()> {
    print(&format!("\n{number}. {text}\n"))
}

/// Says a line of an act.
pub(super) fn line(text: &str) -> Result<()> {
    print(&format!("   {text}\n"))
}

/// Says something outside of any act.
pub(super) fn end(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Shows how many connections each endpoint got.
pub(super) fn spread(reached: &BTreeMap<String, u32>) -> Result<()> {
    let all: u32 = reached.values().sum();
    for (name, count) in reached {
        let share = f64::from(*count) / f64::from(all.max(1));
        let bar = "#".repeat((share * 60.0).round() as usize);
        line(&format!("  {name:<30} {count:>4}  {bar}"))?;
    }
    Ok(())
}

/// A duration in the unit that suits it.
pub(super) fn time(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..1_000_000 => format!("{:.1} µs", duration.as_secs_f64() * 1e6),
        _ => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_a_unit_that_suits() {
        let check = |nanoseconds: u64, expected: &str| {
            assert_eq!(time(Duration::from_nanos(nanoseconds)), expected);
        };
        check(850, "850 ns");
        check(17_250, "17.2 µs");
        check(25_000_000, "25.0 ms");
    }
}
