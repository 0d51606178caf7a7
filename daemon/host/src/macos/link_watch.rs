//! Tells when a link or an IPv4 address changes, by the kernel's routing socket and event socket.

#![allow(unsafe_code)]

use std::{
    io,
    mem::offset_of,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockProtocol, SockType, recv, setsockopt, sockopt::RcvBuf,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use super::socket;
use crate::mac::{
    kernel_event::{INTERFACES, SIOCSKEVFILT},
    link_change,
};

// The messages are laid out as `mac::route` reads them.
const _: () = assert!(size_of::<libc::if_msghdr>() == 112);
const _: () = assert!(offset_of!(libc::if_msghdr, ifm_data.ifi_mtu) == 24);
const _: () = assert!(size_of::<libc::if_msghdr2>() == 160);
const _: () = assert!(offset_of!(libc::if_msghdr2, ifm_data.ifi_mtu) == 40);
const _: () = assert!(size_of::<libc::ifa_msghdr>() == 20);
const _: () =
    assert!(libc::RTM_VERSION == 5 && libc::RTM_IFINFO == 0xe && libc::RTM_IFINFO2 == 0x12);
const _: () = assert!(libc::RTM_NEWADDR == 0xc && libc::RTM_DELADDR == 0xd);

/// Longest message that is read whole, in bytes. Those about links have under 200; a longer one is
/// cut, and what is cut counts as a change.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// How much may queue, in bytes. The kernel drops what does not fit and says nothing (`raw_input` of
/// xnu's `bsd/net/raw_usrreq.c`), so there is room for a storm of routes; `sysctl kern.ipc.maxsockbuf`
/// is some megabytes.
const QUEUE_BYTES: usize = 256 * 1_024;

/// Most messages of a socket that are taken for one change. More than this is a storm: the rest is the
/// next change, so that whoever waits gets its turn.
const MESSAGES_MAX: usize = 1_024;

/// Waits for any change of any link or IPv4 address.
///
/// What changed is not said: whoever waits looks at what is. Most changes are told by both sockets.
pub struct LinkWatch {
    routing: AsyncFd<OwnedFd>,
    events: AsyncFd<OwnedFd>,
}

impl LinkWatch {
    /// Begins to watch: every change from here on is told. Needs no privilege.
    ///
    /// # Errors
    /// The system's, or that no tokio runtime is running.
    pub fn open() -> io::Result<Self> {
        // Registering would panic without one.
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let routing = socket::open(AddressFamily::Route, SockType::Raw, None)?;
        let events =
            socket::open(AddressFamily::System, SockType::Raw, Some(SockProtocol::KextEvent))?;
        let mut filter = INTERFACES;
        // SAFETY: SIOCSKEVFILT takes a `struct kev_request`, which this is; it has no pointers.
        unsafe { socket::ioctl(&events, SIOCSKEVFILT, &mut filter) }?;
        Ok(Self { routing: registered(routing)?, events: registered(events)? })
    }

    /// Waits for the next change; all that is queued by then is the same change. May be dropped
    /// and called again without losing one.
    ///
    /// # Errors
    /// The system's; the watch is then of no more use.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            // What is taken from a socket is told or dropped before the next wait, so that nothing is
            // lost if this is dropped while it waits.
            let mut guard = tokio::select! {
                guard = self.routing.readable() => guard?,
                guard = self.events.readable() => guard?,
            };
            let by_routing = taken(self.routing.get_ref(), link_change::in_routing_messages)?;
            let by_events = taken(self.events.get_ref(), link_change::in_kernel_events)?;
            if by_routing.is_empty && by_events.is_empty {
                guard.clear_ready();
            }
            if by_routing.has_change || by_events.has_change {
                return Ok(());
            }
        }
    }
}

/// What was taken from a socket.
struct Taken {
    /// Whether any of it is a change.
    has_change: bool,
    /// Whether nothing is left.
    is_empty: bool,
}

/// Takes what is queued.
fn taken(socket: &OwnedFd, tells_change: fn(&[u8]) -> bool) -> io::Result<Taken> {
    let mut bytes = [0; MESSAGE_BYTES_MAX];
    let mut has_change = false;
    for _ in 0..MESSAGES_MAX {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            // Sockets of this kind have no end, and no message is empty.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => has_change |= bytes.get(..length).is_none_or(tells_change),
            // The kernel threw messages away because the queue was full.
            Err(Errno::ENOBUFS) => has_change = true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(Taken { has_change, is_empty: true }),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Taken { has_change, is_empty: false })
}

/// A socket whose messages can be waited for.
fn registered(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    socket::never_wait(&socket)?;
    setsockopt(&socket, RcvBuf, &QUEUE_BYTES)?;
    // SAFETY: the descriptor is owned, so it stays open, and the same one, until the `AsyncFd` that it
    // is moved into is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}
