//! A moment that costs no room.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// A moment to the microsecond, or none.
///
/// Seven bytes without alignment lie where an [`EndpointSlice`](super::EndpointSlice) has nothing
/// but padding, so that it is no larger with one than without.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Moment([u8; 7]);

impl Moment {
    /// No moment.
    pub const NONE: Self = Self([0; 7]);

    /// This moment. One before 1970 or after the year 4000 is none.
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since_epoch.as_micros()).unwrap_or_default();
        match micros.to_le_bytes() {
            [low @ .., 0] => Self(low),
            _ => Self::NONE,
        }
    }

    /// The moment, if there is one.
    #[must_use]
    pub fn time(self) -> Option<SystemTime> {
        let [a, b, c, d, e, f, g] = self.0;
        let micros = u64::from_le_bytes([a, b, c, d, e, f, g, 0]);
        (micros > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.time().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_costs_a_slice_no_room() {
        // Two names, a list, a list that has room for one port, and what aligns them.
        assert_eq!(size_of::<super::super::EndpointSlice>(), (2 + 3 + 4 + 1) * size_of::<usize>());
    }

    #[test]
    fn a_moment_is_kept_to_the_microsecond() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_574_646_123_456_789);
        let kept = Moment::at(time).time().expect("a moment");
        let lost = time.duration_since(kept).expect("not later");
        assert_eq!(lost, Duration::from_nanos(789));
        assert_eq!(Moment::default().time(), None);
        assert_eq!(Moment::at(SystemTime::UNIX_EPOCH).time(), None);
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(100_000_000_000);
        assert_eq!(Moment::at(far).time(), None);
    }
}
