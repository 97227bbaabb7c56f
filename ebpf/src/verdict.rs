//! What a program answers.

use aya_ebpf::helpers::bpf_set_retval;

use crate::maps::HAS_SET_RETVAL;

/// What became of a call.
pub(crate) enum Verdict {
    /// It goes to an endpoint.
    Translated,
    /// It goes where the application said.
    Untranslated,
    /// There is no endpoint anywhere.
    Refused,
}

/// The call goes on.
pub(crate) const ALLOW: i32 = 1;
/// The call fails with the errno that was set.
const DENY: i32 = 0;
/// `ECONNREFUSED`.
const ECONNREFUSED: i32 = 111;

/// Makes the call fail with ECONNREFUSED. Where the kernel could only say EPERM, the call goes on
/// untranslated and the packet path refuses it.
#[inline(always)]
pub(crate) fn refuse() -> i32 {
    if HAS_SET_RETVAL.load() == 0 {
        return ALLOW;
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    DENY
}
