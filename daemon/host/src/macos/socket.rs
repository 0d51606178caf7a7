//! Sockets to the kernel.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
};

/// Opens a socket that children do not inherit. macOS has no flag for that at opening: a child that is
/// started just between the two calls keeps a socket that it knows nothing of.
pub(super) fn open(
    family: AddressFamily,
    kind: SockType,
    protocol: Option<SockProtocol>,
) -> io::Result<OwnedFd> {
    let socket = socket(family, kind, SockFlag::empty(), protocol)?;
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(socket)
}

/// A socket for the ioctls of interfaces, which go to any.
pub(super) fn for_interfaces() -> io::Result<OwnedFd> {
    open(AddressFamily::Inet, SockType::Datagram, None)
}

/// Reading it fails with `WouldBlock` rather than wait.
pub(super) fn never_wait(socket: &OwnedFd) -> io::Result<()> {
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// An ioctl with its argument.
///
/// # Safety
/// `request` must be one whose argument is a `T`, and the pointers in it must be to live memory of the
/// sizes that it says, which nothing else uses meanwhile.
pub(super) unsafe fn ioctl<T>(socket: &OwnedFd, request: u32, argument: &mut T) -> io::Result<()> {
    // SAFETY: the argument is live and borrowed by nobody else, its type is the request's by the
    // caller's promise, and so is what it points to; the descriptor is open as long as `socket` lives.
    let rc =
        unsafe { libc::ioctl(socket.as_raw_fd(), request.into(), std::ptr::from_mut(argument)) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
