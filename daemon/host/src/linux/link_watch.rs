//! Tells when a link or an IPv4 address changes, by the groups of rtnetlink(7).

use std::io;

use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

/// The groups, as bits (`linux/rtnetlink.h`): links (MTU, up and down, carrier, bridge, coming and
/// going) and IPv4 addresses.
const GROUPS: u32 = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR).cast_unsigned();

/// Most messages that are taken for one change. More than this is a storm: the rest is the next
/// change, so that whoever waits gets its turn.
const MESSAGES_MAX: usize = 1_024;

/// Waits for any change of any link or IPv4 address of the network namespace that it was opened in.
///
/// What changed is not said: whoever waits looks at what is.
pub struct LinkWatch {
    socket: TokioSocket,
}

impl LinkWatch {
    /// Begins to watch: every change from here on is told.
    ///
    /// # Errors
    /// The system's, or that no tokio runtime is running.
    pub fn open() -> io::Result<Self> {
        // The socket's constructor would panic without one.
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        Ok(Self { socket })
    }

    /// Waits for the next change; all that is queued by then is the same change. May be dropped
    /// and called again without losing one.
    ///
    /// # Errors
    /// The system's; the watch is then of no more use.
    pub async fn changed(&mut self) -> io::Result<()> {
        // Longer messages are cut: none is looked into.
        let mut bytes = [0; 64];
        match self.socket.recv(&mut &mut bytes[..]).await {
            Ok(()) => {}
            Err(error) if is_overrun(&error) => {}
            Err(error) => return Err(error),
        }
        for _ in 0..MESSAGES_MAX {
            match self.socket.socket_ref().recv(&mut &mut bytes[..], libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if is_overrun(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The kernel threw messages away because the queue was full: there was a change.
fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}
