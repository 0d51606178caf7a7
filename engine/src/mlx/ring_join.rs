//! Gives MLX's ring the connections that its ranks made themselves.
//!
//! MLX's ring listens for its neighbour, takes whoever connects first, and connects to an address. Here
//! both ends of that are on this machine's loopback, within this process, and nothing is said on them:
//! once MLX has formed its group, the descriptors of its sockets are made to be the ranks' own, proven
//! connections. Whoever else got a connection in between has lost it by then. Before its first collective
//! MLX's threads touch no socket, so none is replaced under a thread that uses it.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::EngineError;
use crate::control::ring::Neighbours;

/// Tries, each by other ports: another process may take one between our choosing and MLX's taking it.
const TRIES: usize = 5;
/// Pause between attempts to connect to MLX's listener, which is there after microseconds.
const RETRY_PAUSE: Duration = Duration::from_millis(1);
/// How long one such attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// MLX's group, joined by `init`, with the neighbours' connections in its sockets' places.
///
/// # Errors
/// [`EngineError::Group`] if MLX could not form it, however often tried.
pub(super) fn join<T>(
    neighbours: Neighbours,
    rank: u32,
    size: u32,
    init: impl Fn() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let mut tries = 1..;
    loop {
        match on_loopback(rank, size, &init) {
            Ok((group, left, right)) => {
                put(neighbours.left, left)?;
                put(neighbours.right, right)?;
                return Ok(group);
            }
            Err(error) if tries.next() == Some(TRIES) => return Err(error),
            Err(error) => tracing::warn!(%error, "MLX's ring was not formed; trying other ports"),
        }
    }
}

fn os(what: &'static str) -> impl Fn(std::io::Error) -> EngineError {
    move |source| EngineError::Os { what: what.to_owned(), source }
}

/// Forms MLX's ring on loopback; gives the descriptors of its connections from the left and to the right.
fn on_loopback<T>(
    rank: u32,
    size: u32,
    init: impl Fn() -> Result<T, EngineError>,
) -> Result<(T, RawFd, RawFd), EngineError> {
    let taken = os("a port on loopback can't be had for MLX's ring");
    // Where MLX connects to: a connection is complete once it waits here.
    let right = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(&taken)?;
    let right_place = right.local_addr().map_err(&taken)?;
    // Where MLX listens.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(&taken)?;
    let left_place = free.local_addr().map_err(&taken)?;
    drop(free);

    let place = |number| if number == rank { left_place } else { right_place };
    let hosts: Vec<[String; 1]> = (0..size).map(|n| [place(n).to_string()]).collect();
    let hosts = serde_json::to_vec(&hosts)
        .map_err(|error| EngineError::Software(format!("a list of hosts: {error}")))?;
    // MLX reads a file: a pipe that holds all of it, which is in no folder.
    let (reader, mut writer) = std::io::pipe().map_err(os("a pipe can't be had"))?;
    writer.write_all(&hosts).map_err(os("a pipe can't be written"))?;
    drop(writer);
    set(c"MLX_HOSTFILE", &format!("/dev/fd/{}", reader.as_raw_fd()))?;
    set(c"MLX_RANK", &rank.to_string())?;

    let is_done = AtomicBool::new(false);
    let group = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut own = None;
            while !is_done.load(Ordering::Relaxed) {
                if own.is_none() {
                    own = TcpStream::connect_timeout(&left_place, CONNECT_TIMEOUT).ok();
                }
                std::thread::sleep(RETRY_PAUSE);
            }
        });
        let group = init();
        is_done.store(true, Ordering::Relaxed);
        group
    })?;
    let (mut from_left, mut to_right) = (None, None);
    for fd in descriptors()? {
        // Whoever is at the other end of the first, and whether it still is: its listener is closed.
        let (own, peer) = ends(fd);
        if own == Some(left_place) {
            from_left = Some(fd);
        } else if peer == Some(right_place) {
            to_right = Some(fd);
        }
    }
    match (from_left, to_right) {
        (Some(left), Some(right)) => Ok((group, left, right)),
        _ => Err(EngineError::Group("MLX's ring has no connections of its own".to_owned())),
    }
}

/// Sets a variable that MLX reads.
fn set(name: &CStr, value: &str) -> Result<(), EngineError> {
    let value = std::ffi::CString::new(value)
        .map_err(|_| EngineError::Software("a variable holds NUL".to_owned()))?;
    // SAFETY: both strings live through the call. Rust's own calls are not in its way: nothing of this
    // crate reads the environment once ranks run, and what MLX reads of it, it reads on this thread.
    match unsafe { nix::libc::setenv(name.as_ptr(), value.as_ptr(), 1) } {
        0 => Ok(()),
        _ => Err(os("the environment can't be set")(std::io::Error::last_os_error())),
    }
}

/// This process's open descriptors.
fn descriptors() -> Result<Vec<RawFd>, EngineError> {
    let entries = std::fs::read_dir("/dev/fd").map_err(os("/dev/fd can't be read"))?;
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok()
    };
    Ok(entries.filter_map(number).collect())
}

/// The addresses of a descriptor's own end and of the other, where it is an IP socket that has them.
fn ends(fd: RawFd) -> (Option<SocketAddr>, Option<SocketAddr>) {
    // SAFETY: only asked for its addresses, and not closed here. Where it is no socket, or another thread
    // closes it meanwhile, the answer is an error.
    let socket = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd) });
    (socket.local_addr().ok(), socket.peer_addr().ok())
}

/// Makes `place`, a descriptor of MLX's, one of `connection`, and ends what it was before.
fn put(connection: TcpStream, place: RawFd) -> Result<(), EngineError> {
    let ready = connection
        .set_nodelay(true)
        .and_then(|()| connection.set_read_timeout(None))
        .and_then(|()| connection.set_write_timeout(None))
        // As MLX has its own.
        .and_then(|()| connection.set_nonblocking(true));
    ready.map_err(os("a connection of the ring can't be set up"))?;
    // SAFETY: `place` is a socket that MLX's group, which the caller has just formed, owns and closes;
    // its threads wait for work and use it only by number.
    let put = unsafe { nix::unistd::dup2_raw(&connection, place) };
    let put =
        put.map_err(|error| os("a connection of the ring can't be put in place")(error.into()))?;
    // It stays MLX's to close.
    let place = put.into_raw_fd();
    #[cfg(target_os = "linux")]
    if let Err(error) = super::ring_sockets::wait_in_kernel(place) {
        tracing::debug!(%error, "a connection of the ring does not wait in the kernel");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = place;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// What MLX does: listens where it is told, takes the first that comes, connects where it is told.
    fn as_mlx_does(strangers: usize) -> Result<[TcpStream; 2], EngineError> {
        let hosts = std::fs::read(std::env::var("MLX_HOSTFILE").unwrap()).unwrap();
        let hosts: Vec<[SocketAddr; 1]> = serde_json::from_slice(&hosts).unwrap();
        let rank: usize = std::env::var("MLX_RANK").unwrap().parse().unwrap();
        let listener = TcpListener::bind(hosts[rank][0]).unwrap();
        let mut held: Vec<_> =
            (0..strangers).map(|_| TcpStream::connect(hosts[rank][0]).unwrap()).collect();
        held.iter_mut().for_each(|stranger| stranger.write_all(b"garbage").unwrap());
        let left = listener.accept().unwrap().0;
        left.set_nonblocking(true).unwrap();
        let right = TcpStream::connect(hosts[(rank + 1) % hosts.len()][0]).unwrap();
        Ok([left, right])
    }

    #[test]
    fn the_ring_has_its_neighbours_whoever_connected_to_it_first() {
        for (strangers, rank) in (0..6).flat_map(|n| [(n % 3, 0), (n % 3, 1)]) {
            let ((left, mut before), (right, mut after)) = (pair(), pair());
            let neighbours = Neighbours { left, right };
            let [mut left, mut right] =
                join(neighbours, rank, 2, || as_mlx_does(strangers)).unwrap();
            before.write_all(b"left").unwrap();
            after.write_all(b"right").unwrap();
            let (mut from_left, mut from_right) = ([0; 4], [0; 5]);
            for stream in [&left, &right] {
                stream.set_nonblocking(false).unwrap();
            }
            left.read_exact(&mut from_left).unwrap();
            right.read_exact(&mut from_right).unwrap();
            assert_eq!((&from_left, &from_right), (b"left", b"right"), "{strangers} strangers");
        }
    }

    #[test]
    fn a_ring_that_can_not_be_formed_is_given_up_after_some_tries() {
        let tries = std::cell::Cell::new(0);
        let ((left, _before), (right, _after)) = (pair(), pair());
        let fails = || -> Result<(), EngineError> {
            tries.set(tries.get() + 1);
            Err(EngineError::Group("[ring] Couldn't bind socket".to_owned()))
        };
        let error = join(Neighbours { left, right }, 0, 2, fails).unwrap_err();
        assert!(error.to_string().contains("bind"), "{error}");
        assert_eq!(tries.get(), TRIES);
    }
}
