//! ClientIP session affinity.

use crate::model::Service;

/// The longest time-out that Kubernetes knows: a day.
const LONGEST_SECONDS: u32 = 86_400;

/// The time-out of a Service's affinity. The API server admits nothing outside the bounds; a file
/// may, and then gets the nearest.
pub(super) fn seconds(service: &Service) -> Option<u32> {
    service.affinity_seconds.map(|seconds| seconds.clamp(1, LONGEST_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectName;

    #[test]
    fn the_time_out_stays_in_bounds() {
        let check = |given, wanted| {
            let mut service = Service::new(ObjectName::new("default", "web"));
            service.affinity_seconds = given;
            assert_eq!(seconds(&service), wanted);
        };
        check(None, None);
        check(Some(0), Some(1));
        check(Some(10_800), Some(10_800));
        check(Some(86_401), Some(86_400));
    }
}
