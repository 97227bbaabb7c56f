//! How long to wait after a failure.

use std::time::Duration;

/// Doubles from 50 ms to 10 s while something fails.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(10);

    pub(super) const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// How long to wait now; the next wait is longer.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::LONGEST);
        wait
    }

    /// It worked.
    pub(super) const fn reset(&mut self) {
        self.0 = Self::FIRST;
    }
}
