//! The tiers of tests: what needs privileges says so and is never skipped silently.

use std::env;

/// Whether a test of the privileged tier can run here. Where it cannot, prints `SKIP` and the
/// reason; with `REQUIRE_ALL=1` that is a failure.
///
/// # Panics
///
/// Panics where the test cannot run and `REQUIRE_ALL` is `1`.
#[must_use]
pub fn may_run_privileged() -> bool {
    match missing_privilege() {
        None => true,
        Some(reason) => {
            skip(&reason);
            false
        }
    }
}

/// Says that a test cannot run here and why.
///
/// # Panics
///
/// Panics if `REQUIRE_ALL` is `1`.
#[expect(clippy::print_stderr, reason = "what CI counts is the line in the test's output")]
pub fn skip(reason: &str) {
    assert!(
        env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"),
        "cannot run here, and REQUIRE_ALL=1: {reason}"
    );
    eprintln!("SKIP {reason}");
}

/// What keeps this process from making worlds, if anything.
#[must_use]
pub fn missing_privilege() -> Option<String> {
    use caps::{CapSet, Capability};
    let needed = [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN, Capability::CAP_BPF];
    let missing: Vec<_> = needed
        .into_iter()
        .filter(|&capability| !caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false))
        .map(|capability| capability.to_string())
        .collect();
    (!missing.is_empty()).then(|| format!("not root: {} missing", missing.join(" and ")))
}
