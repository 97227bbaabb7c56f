//! The order of endpoints in their slots.

use std::{collections::HashSet, net::SocketAddr};

/// Puts endpoints into slots so that as few slots as possible change: who stays keeps its slot,
/// who comes takes one that became free, and the last ones move into what is still free then.
pub(super) fn arrange(
    old: &[SocketAddr],
    wanted: impl Iterator<Item = SocketAddr>,
) -> Box<[SocketAddr]> {
    if old.is_empty() {
        return wanted.collect();
    }
    let wanted: Vec<SocketAddr> = wanted.collect();
    if old == wanted.as_slice() {
        return wanted.into();
    }
    let mut missing: HashSet<SocketAddr> = wanted.iter().copied().collect();
    // What was half written can have an endpoint twice: it keeps one slot.
    let mut slots: Vec<Option<SocketAddr>> =
        old.iter().map(|endpoint| missing.remove(endpoint).then_some(*endpoint)).collect();
    let mut come = wanted.iter().filter(|endpoint| missing.contains(endpoint)).copied();
    let free = slots.iter_mut().filter(|slot| slot.is_none());
    free.for_each(|slot| *slot = come.next());
    slots.extend(come.map(Some));
    let mut arranged = Vec::with_capacity(wanted.len());
    let mut free = 0;
    while let Some(slot) = slots.get(free).copied() {
        let moved = slot.or_else(|| {
            while slots.len() > free + 1 {
                if let Some(Some(last)) = slots.pop() {
                    return Some(last);
                }
            }
            None
        });
        arranged.extend(moved);
        free += 1;
    }
    arranged.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoints(numbers: &[u8]) -> Vec<SocketAddr> {
        numbers.iter().map(|number| SocketAddr::from(([10, 0, 0, *number], 80))).collect()
    }

    fn check(old: &[u8], wanted: &[u8], expected: &[u8]) {
        let arranged = arrange(&endpoints(old), endpoints(wanted).into_iter());
        assert_eq!(*arranged, *endpoints(expected));
    }

    #[test]
    fn few_slots_change() {
        check(&[], &[1, 2], &[1, 2]);
        check(&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]);
        check(&[1, 2, 3], &[2, 3], &[3, 2]);
        check(&[1, 2, 3], &[1, 2], &[1, 2]);
        check(&[1, 2, 3], &[0, 2, 3], &[0, 2, 3]);
        check(&[1, 2], &[0, 1, 2, 9], &[1, 2, 0, 9]);
        check(&[1, 2, 3, 4], &[4], &[4]);
        check(&[1, 2, 3, 4], &[9], &[9]);
        check(&[1, 2], &[], &[]);
        check(&[1, 1, 2], &[1, 2, 3], &[1, 3, 2]);
        check(&[1, 2, 2], &[1, 2], &[1, 2]);
    }

    proptest! {
        #[test]
        fn all_are_there_once(old: HashSet<u8>, wanted: HashSet<u8>) {
            let old: Vec<u8> = old.into_iter().collect();
            let wanted: Vec<u8> = wanted.into_iter().collect();
            let arranged = arrange(&endpoints(&old), endpoints(&wanted).into_iter());
            let mut sorted = arranged.to_vec();
            sorted.sort();
            let mut expected = endpoints(&wanted);
            expected.sort();
            prop_assert_eq!(sorted, expected);
            let stay = wanted.iter().filter(|number| old.contains(number)).count();
            let kept = arranged.iter().zip(endpoints(&old)).filter(|(a, b)| *a == b).count();
            let gone = old.len().saturating_sub(wanted.len());
            prop_assert!(kept + gone >= stay, "{kept} of {stay} kept their slots");
        }
    }
}
