//! Waiting for a condition with a deadline, which is the only waiting that tests may do.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// The environment's factor of all limits, for machines that are slow by nature: what is tested
/// does not depend on it, only when a test gives up does.
const PATIENCE: &str = "SHUNT_PATIENCE";

/// A limit, with the environment's factor.
pub(crate) fn patience(limit: Duration) -> Duration {
    let factor = env::var(PATIENCE).ok().and_then(|factor| factor.parse().ok());
    limit * factor.unwrap_or(1)
}

/// Calls `check` until it gives a value, at most for `limit`, or as many times that long as
/// `SHUNT_PATIENCE` in the environment says; `what` completes the error "waited in
/// vain for …".
///
/// # Errors
///
/// Fails when the limit is over; `check` has then been called at least once.
pub fn until<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> Result<T> {
    let limit = patience(limit);
    let start = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(value) = check() {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("waited in vain for {what} ({} ms)", limit.as_millis());
        }
        // Nobody unparks this thread: the pause only keeps the two sides of a test from competing
        // for the processor.
        thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
