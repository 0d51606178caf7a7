//! One interface, by ioctl and getifaddrs(3). Reading needs no privilege, setting needs root, and
//! nothing that is set here survives a reboot.
//!
//! An interface that is not there is `ENXIO`, as the kernel says it.

#![allow(unsafe_code)]

use std::{io, net::Ipv4Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

use super::socket;
use crate::mac::layout::{self, AddressRequest, InterfaceRequest};

// What is handed to the kernel is as long as the system's own headers say.
const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());
const _: () = assert!(size_of::<AddressRequest>() == size_of::<libc::ifaliasreq>());
const _: () = assert!(layout::NAME_BYTES == libc::IFNAMSIZ);

/// The error for an interface that is not there.
pub(super) fn absent() -> io::Error {
    io::Error::from_raw_os_error(libc::ENXIO)
}

/// The MTU, in bytes.
pub(crate) fn mtu_bytes(link: &str) -> io::Result<u32> {
    let answer = ask(link, layout::SIOCGIFMTU)?;
    answer.mtu_bytes().ok_or_else(|| io::Error::other(format!("{link} has a negative MTU")))
}

/// Sets it until the next boot. `EINVAL` if the driver or a bridge it is in does not take it.
pub(crate) fn set_mtu(link: &str, mtu_bytes: u32) -> io::Result<()> {
    layout::interface_name(link).ok_or_else(absent)?;
    let mut order = InterfaceRequest::with_mtu(link, mtu_bytes)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: SIOCSIFMTU takes a `struct ifreq` with the MTU, which this is; it has no pointers.
    unsafe { socket::ioctl(&socket::for_interfaces()?, layout::SIOCSIFMTU, &mut order) }
}

/// Gives it one more address until the next boot. Giving it again does no harm.
pub(crate) fn add_address(link: &str, address: Ipv4Addr, prefix_bits: u8) -> io::Result<()> {
    layout::interface_name(link).ok_or_else(absent)?;
    let mut order = AddressRequest::new(link, address, prefix_bits)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: SIOCAIFADDR takes a `struct ifaliasreq`, which this is; it has no pointers.
    unsafe { socket::ioctl(&socket::for_interfaces()?, layout::SIOCAIFADDR, &mut order) }
}

/// The names of all interfaces, in the system's order.
pub(crate) fn names() -> io::Result<Vec<String>> {
    Ok(links()?.into_iter().map(|(name, _)| name).collect())
}

/// Its hardware address; empty if it has none.
pub(crate) fn hardware_address(link: &str) -> io::Result<Vec<u8>> {
    links()?
        .into_iter()
        .find_map(|(name, address)| (name == link).then_some(address))
        .ok_or_else(absent)
}

/// Every interface with its hardware address: each has one entry of the family `AF_LINK`.
fn links() -> io::Result<Vec<(String, Vec<u8>)>> {
    let link = |each: InterfaceAddress| {
        let address = each.address?;
        let link = address.as_link_addr()?;
        let raw: &libc::sockaddr_dl = link.as_ref();
        let data = raw.sdl_data.map(libc::c_char::cast_unsigned);
        let hardware = layout::hardware_address(raw.sdl_nlen, raw.sdl_alen, &data);
        Some((each.interface_name, hardware.unwrap_or_default()))
    };
    Ok(getifaddrs()?.filter_map(link).collect())
}

/// A question about an interface whose answer is in the request's own bytes.
fn ask(link: &str, request: u32) -> io::Result<InterfaceRequest> {
    let mut question = InterfaceRequest::about(link).ok_or_else(absent)?;
    // SAFETY: it is only called with SIOCGIFMTU, which takes a `struct ifreq` and writes into it; it has
    // no pointers.
    unsafe { socket::ioctl(&socket::for_interfaces()?, request, &mut question) }?;
    Ok(question)
}
