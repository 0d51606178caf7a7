//! Which bridge a link is in, and out of it. Looking needs no privilege, taking out needs root and
//! lasts until macOS makes its bridge again: at boot, and when a port without a network service of its
//! own is plugged in.

#![allow(unsafe_code)]

use std::io;

use super::{interface, socket};
use crate::mac::layout::bridge::{
    self, DELETE, DriverRequest, MEMBERS, MEMBERS_MAX, Member, MemberList, SIOCGDRVSPEC,
    SIOCSDRVSPEC,
};

/// The bridge that has this link as a member. `ENXIO` if the link is not there.
pub(crate) fn bridge_of(link: &str) -> io::Result<Option<String>> {
    let all = interface::names()?;
    if !all.iter().any(|name| name == link) {
        return Err(interface::absent());
    }
    for bridge in all.into_iter().filter(|name| bridge::is_bridge(name)) {
        match members(&bridge) {
            Ok(members) if members.iter().any(|member| member == link) => return Ok(Some(bridge)),
            Ok(_) => {}
            // It is gone since it was listed, and its members are free.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Takes a link out of a bridge. One that is not in it is left alone.
pub(crate) fn remove(bridge: &str, link: &str) -> io::Result<()> {
    let mut member = Member::named(link).ok_or_else(interface::absent)?;
    let mut order =
        DriverRequest::new(bridge, DELETE, &mut member).ok_or_else(interface::absent)?;
    // SAFETY: SIOCSDRVSPEC takes a `struct ifdrv`, and BRDGDEL reads a `struct ifbreq` from where that
    // points, which is `member`: it has its size, lives on and is not used meanwhile.
    match unsafe { socket::ioctl(&socket::for_interfaces()?, SIOCSDRVSPEC, &mut order) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

fn members(bridge: &str) -> io::Result<Vec<String>> {
    let mut room = [Member::EMPTY; MEMBERS_MAX];
    let size_bytes = u32::try_from(size_of_val(&room)).map_err(io::Error::other)?;
    let mut list = MemberList { size_bytes, buffer: room.as_mut_ptr().cast() };
    let mut question =
        DriverRequest::new(bridge, MEMBERS, &mut list).ok_or_else(interface::absent)?;
    // SAFETY: SIOCGDRVSPEC takes a `struct ifdrv`, and BRDGGIFS a `struct ifbifconf` where that points,
    // which is `list`; it fills at most the size that is in it, which is that of `room`, with members,
    // for which any bytes are a value. Both live on and are not used meanwhile.
    unsafe { socket::ioctl(&socket::for_interfaces()?, SIOCGDRVSPEC, &mut question) }?;
    bridge::names(&room, list.size_bytes).map_err(io::Error::other)
}
