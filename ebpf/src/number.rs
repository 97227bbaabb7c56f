//! Comparisons that yield a number and not a branch.
//!
//! The verifier walks both sides of every branch, and in a loop that is a power.

/// 1 if `a < b`, else 0: the borrow of `a - b`.
#[inline(always)]
pub(crate) const fn is_less(a: u64, b: u64) -> u32 {
    (((!a & b) | ((!a | b) & a.wrapping_sub(b))) >> 63) as u32
}

/// 1 if `a` is 0, else 0.
#[inline(always)]
pub(crate) const fn is_zero(a: u64) -> u32 {
    1 ^ ((a | a.wrapping_neg()) >> 63) as u32
}
