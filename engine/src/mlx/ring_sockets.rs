//! Lets a rank that waits for its neighbour sleep.
//!
//! MLX's ring makes its sockets non-blocking and moves their data by a thread each, which asks
//! again and again while it waits: it takes a core from the computation of another rank on the same
//! machine, and from the one that it waits for. A blocking socket waits in the kernel instead.
//!
//! Blocking must end by itself, for the thread takes turns: it receives what is due, then sends
//! what is due, on one socket. Were it to wait for ever in one, the other would never happen, and
//! two ranks could wait for each other. So both have a time limit, after which MLX sees what a
//! non-blocking socket would have said (`EAGAIN`) and takes the next turn. MLX sets the sockets
//! back when the group ends.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockaddrLike, SockaddrStorage, getpeername, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// The most that a turn can be late. Data that comes ends the wait at once, so it is only felt when
/// a socket has to both send and receive; and an idle wait costs 500 wake-ups a second at most.
const TURN_LIMIT_MS: i64 = 2;

/// This process's open sockets, by descriptor.
pub(super) fn open_sockets() -> BTreeSet<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Makes the ring's sockets wait in the kernel: those that were opened since `before` was listed,
/// are connected by IP and non-blocking. (Our own sockets are blocking; a listener has no peer.)
/// Gives how many there were. A socket that refuses stays as MLX made it: slower, but right.
pub(super) fn make_waiting(before: &BTreeSet<RawFd>) -> usize {
    let opened = open_sockets();
    let opened = opened.difference(before);
    opened.filter(|&&fd| wait_in_kernel(fd) == Ok(true)).count()
}

/// Makes one connected, non-blocking IP socket wait in the kernel; false for any other.
pub(super) fn wait_in_kernel(fd: RawFd) -> nix::Result<bool> {
    // SAFETY: used for this function only. The ring's sockets live as long as its group, which the
    // caller has just made; another thread's that is closed meanwhile gives EBADF here.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    let peer = getpeername::<SockaddrStorage>(fd)?;
    let family = peer.family();
    let by_ip = matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6));
    if !by_ip || !flags.contains(OFlag::O_NONBLOCK) {
        return Ok(false);
    }
    // The limits first: the socket must never block without them.
    let limit = TimeVal::milliseconds(TURN_LIMIT_MS);
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    fcntl(socket, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn only_new_connected_nonblocking_ip_sockets_are_changed() {
        let (old, _old_peer) = pair();
        old.set_nonblocking(true).unwrap();
        let before = open_sockets();
        assert!(before.contains(&old.as_raw_fd()));

        let (ring, own) = pair();
        ring.set_nonblocking(true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (local, _local_peer) = UnixStream::pair().unwrap();
        local.set_nonblocking(true).unwrap();
        // At least: other tests of this process have sockets of their own.
        assert!(make_waiting(&before) >= 1);

        assert!(ring.read_timeout().unwrap().is_some());
        assert!(ring.write_timeout().unwrap().is_some());
        for other in [&old, &own] {
            assert_eq!(other.read_timeout().unwrap(), None);
        }
        assert_eq!(wait_in_kernel(ring.as_raw_fd()), Ok(false), "it waits already");
    }

    #[test]
    fn two_ends_that_send_more_than_the_kernel_holds_take_turns() {
        let (left, right) = pair();
        for end in [&left, &right] {
            end.set_nonblocking(true).unwrap();
            assert_eq!(wait_in_kernel(end.as_raw_fd()), Ok(true));
        }
        // As MLX's thread does it: one turn to receive, one to send.
        const BYTES: usize = 32 << 20;
        let exchange = |mut end: TcpStream| {
            let data = vec![7u8; 1 << 20];
            let mut buffer = vec![0u8; 1 << 20];
            let (mut sent, mut received) = (0, 0);
            let turn = |result: std::io::Result<usize>| match result {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
                Err(e) => panic!("{e}"),
            };
            while sent < BYTES || received < BYTES {
                if received < BYTES {
                    received += turn(end.read(&mut buffer));
                }
                if sent < BYTES {
                    let len = data.len().min(BYTES - sent);
                    sent += turn(end.write(&data[..len]));
                }
            }
            (sent, received)
        };
        let other = std::thread::spawn(move || exchange(right));
        assert_eq!(exchange(left), (BYTES, BYTES));
        assert_eq!(other.join().unwrap(), (BYTES, BYTES));
    }
}
