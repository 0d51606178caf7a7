//! Whether the kernel's clock is disciplined, by adjtimex(2): any time daemon (NTP, PTP) that sets
//! the clock says so there, so none has to be known by name.

#![allow(unsafe_code)]

use std::{io, mem};

use tandem_policy::invariant::{Found, Unknown};

/// Reads the kernel's own account.
pub(super) fn is_synchronised() -> Result<(Found, String), Unknown> {
    // SAFETY: `timex` is integers only, for which zero is a value; `modes` 0 asks to set nothing.
    let mut seen: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex`, which the call fills in.
    let state = unsafe { libc::adjtimex(&raw mut seen) };
    if state < 0 {
        return Err(Unknown::Failed(format!("adjtimex: {}", io::Error::last_os_error())));
    }
    let held = state != libc::TIME_ERROR && seen.status & libc::STA_UNSYNC == 0;
    Ok((Found::Flag(held), "adjtimex".into()))
}
