//! The terminal.

#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

nix::ioctl_read_bad!(
    /// The size of a terminal (ioctl_tty(2)).
    window_size,
    nix::libc::TIOCGWINSZ,
    nix::libc::winsize
);

/// Columns of the terminal on standard output; `None` if it is none.
pub fn columns() -> Option<usize> {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes one `winsize`, which `size` is.
    unsafe { window_size(std::io::stdout().as_raw_fd(), &raw mut size) }.ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
