//! The MTU of an interface, by ioctl (netdevice(7)): the oldest interface there is, and the same on
//! a Mac.

#![allow(unsafe_code)]

use std::{
    io, mem,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// The MTU, in bytes. `ENODEV` if there is no such interface.
pub(super) fn mtu_bytes(link: &str) -> io::Result<u32> {
    let (socket, mut request) = (any_socket()?, named(link)?);
    // SAFETY: SIOCGIFMTU reads `ifr_name` of a live, exclusively borrowed `ifreq` and writes
    // `ifr_mtu` into it; the descriptor is open for as long as `socket` lives.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the kernel wrote this member; any bits are an integer.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(|_| io::Error::other(format!("the kernel says an MTU of {mtu}")))
}

/// Sets it. `ENODEV` if there is no such interface, `EINVAL` if its driver does not take it.
pub(super) fn set_mtu(link: &str, mtu_bytes: u32) -> io::Result<()> {
    let (socket, mut request) = (any_socket()?, named(link)?);
    request.ifr_ifru.ifru_mtu =
        i32::try_from(mtu_bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: SIOCSIFMTU only reads `ifr_name` and `ifr_mtu`, both of which are set.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU, &raw mut request) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The ioctls of interfaces go to any socket; it belongs to the thread's network namespace.
fn any_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

/// A request about this interface.
fn named(link: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is a byte array and a union of integers, addresses and a pointer that is not
    // followed for an MTU; zero is a value of each.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays zero. The kernel would look for a name that is cut, so none is.
    if link.len() >= request.ifr_name.len() || link.as_bytes().contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}
