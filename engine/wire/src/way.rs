//! The way to another node: over the interface on whose network its address is, whatever the routes say.
//!
//! The link between two Macs is a network of its own. A host whose routes lead elsewhere (a VPN that
//! takes all, a LAN with the same private network, self-assigned addresses on several interfaces)
//! would send what ranks and supervisors tell each other through the wrong one, and the cable would
//! look cut. So every connection to another node is bound before it is made, to this node's address
//! on that network and to the interface that has it. Where no network of this node holds the address,
//! or two do equally well, the routes choose.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    num::NonZeroU32,
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::socket::SockaddrStorage,
};
use socket2::{Domain, Protocol, Socket, Type};

/// An address of this node, on the network that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    interface: String,
    address: IpAddr,
    /// How many leading bits all addresses of that network share.
    prefix_bits: u32,
}

impl Place {
    fn reaches(&self, target: IpAddr) -> bool {
        match (self.address, target) {
            (IpAddr::V4(own), IpAddr::V4(target)) => {
                let host_bits = 32_u32.saturating_sub(self.prefix_bits);
                let differ = u32::from(own) ^ u32::from(target);
                differ.checked_shr(host_bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(target)) => {
                let host_bits = 128_u32.saturating_sub(self.prefix_bits);
                let differ = u128::from(own) ^ u128::from(target);
                differ.checked_shr(host_bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Where to start from: the place on the narrowest network that holds the target. None if there is
/// none or more than one, or if the target is this node itself.
fn choose(target: IpAddr, places: &[Place]) -> Option<&Place> {
    if target.is_loopback() || places.iter().any(|place| place.address == target) {
        return None;
    }
    let near = || places.iter().filter(|place| place.reaches(target));
    let narrowest = near().map(|place| place.prefix_bits).max()?;
    let mut best = near().filter(|place| place.prefix_bits == narrowest);
    let first = best.next()?;
    best.next().is_none().then_some(first)
}

/// All addresses of this node's interfaces that are up and have neighbours.
fn places() -> io::Result<Vec<Place>> {
    let wanted = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let found = getifaddrs()?.filter(|found| wanted(found.flags)).filter_map(|found| {
        let ip = |address: Option<SockaddrStorage>| {
            let address = address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        };
        let (address, mask) = (ip(found.address)?, ip(found.netmask)?);
        let prefix_bits = match mask {
            IpAddr::V4(mask) => u32::from(mask).leading_ones(),
            IpAddr::V6(mask) => u128::from(mask).leading_ones(),
        };
        Some(Place { interface: found.interface_name, address, prefix_bits })
    });
    Ok(found.collect())
}

fn socket_to(target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    // An IPv6 address of one link names its interface itself.
    if matches!(target, SocketAddr::V6(address) if address.scope_id() != 0) {
        return Ok(socket);
    }
    let places = places()?;
    if let Some(place) = choose(target.ip(), &places) {
        let index = NonZeroU32::new(if_nametoindex(place.interface.as_str())?);
        // IP_BOUND_IF and IPV6_BOUND_IF on a Mac, SO_BINDTOIFINDEX on Linux.
        let bound = match target {
            SocketAddr::V4(_) => socket.bind_device_by_index_v4(index),
            SocketAddr::V6(_) => socket.bind_device_by_index_v6(index),
        };
        match bound {
            // Linux before 5.7 lets only root: there the address alone must do.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            bound => bound?,
        }
        socket.bind(&SocketAddr::new(place.address, 0).into())?;
    }
    Ok(socket)
}

/// A socket that is bound to the way to this address and not connected yet. It does not block.
///
/// # Errors
/// The system's.
pub fn unconnected(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_to(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Connects by the way to this address, within this time. The stream blocks.
///
/// # Errors
/// The system's.
pub fn connect_timeout(target: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = socket_to(target)?;
    socket.connect_timeout(&target.into(), timeout)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(interface: &str, address: &str, prefix_bits: u32) -> Place {
        Place { interface: interface.into(), address: address.parse().unwrap(), prefix_bits }
    }

    #[test]
    fn the_narrowest_network_that_holds_the_target_is_the_way() {
        let places = [
            place("en0", "10.77.0.9", 8),
            place("en3", "10.77.7.1", 30),
            place("en4", "169.254.3.1", 16),
            place("en5", "169.254.4.1", 16),
            place("en0", "fd00::1", 64),
            place("utun0", "192.0.2.1", 32),
        ];
        for (target, way) in [
            ("10.77.7.2", Some("en3")),
            ("10.77.7.9", Some("en0")),
            ("10.77.7.1", None),
            ("127.0.0.1", None),
            ("192.168.0.1", None),
            ("169.254.9.9", None),
            ("fd00::2", Some("en0")),
            ("fd01::2", None),
            ("::1", None),
        ] {
            let found = choose(target.parse().unwrap(), &places);
            assert_eq!(found.map(|place| place.interface.as_str()), way, "{target}");
        }
        let all = [place("en0", "10.0.0.1", 0)];
        assert!(choose("8.8.8.8".parse().unwrap(), &all).is_some(), "a network of all addresses");
    }

    #[test]
    fn this_machine_itself_is_reached_as_ever() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let stream = connect_timeout(target, Duration::from_secs(5)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), target);
        assert!(unconnected(target).is_ok());
    }
}
