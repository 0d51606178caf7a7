//! The IPv4 address of a link.

use std::{io, net::Ipv4Addr};

use nix::ifaddrs::getifaddrs;
#[cfg(target_os = "linux")]
use tandem_policy::invariant::{Found, Unknown};

/// The IPv4 addresses of an interface that is known to exist; none is an empty list.
#[cfg(target_os = "linux")]
pub(crate) fn addresses(link: &str) -> Result<(Found, String), Unknown> {
    let all = ipv4(link).map_err(|error| Unknown::Failed(format!("getifaddrs: {error}")))?;
    let names = all.iter().map(Ipv4Addr::to_string).collect();
    Ok((Found::Names(names), format!("getifaddrs {link}")))
}

/// The same as addresses.
pub(crate) fn ipv4(link: &str) -> io::Result<Vec<Ipv4Addr>> {
    let own = getifaddrs()?.filter(|each| each.interface_name == link);
    Ok(own.filter_map(|each| Some(each.address?.as_sockaddr_in()?.ip())).collect())
}

/// The link-local address of an interface: always the same one for the same hardware address, so
/// that it survives a replugged cable and a reboot. `None` for an all-zero or missing one.
///
/// RFC 3927, 2.1: 169.254.1.0 to 169.254.254.255, chosen from something that differs between
/// hosts. The bytes are mixed by FNV-1a (32 bits), for cards of one batch differ in their last bits
/// only. It is not probed for (RFC 3927, 2.2.1): two ends of one cable get the same one once in
/// 65,024 pairs, and the connection between them then fails loudly.
pub(crate) fn link_local(hardware_address: &[u8]) -> Option<Ipv4Addr> {
    const FIRST: u32 = u32::from_be_bytes([169, 254, 1, 0]);
    const COUNT: u32 = 254 * 256;
    if hardware_address.iter().all(|byte| *byte == 0) {
        return None;
    }
    let hash = hardware_address
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    Some(Ipv4Addr::from(FIRST + hash % COUNT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_hardware_addresses_get_different_valid_link_local_ones() {
        let of = |last: u8| link_local(&[0x36, 0x13, 0x4c, 0x5b, 0x80, last]).unwrap();
        let mut all: Vec<Ipv4Addr> = (0..=255).map(of).collect();
        assert!(all.iter().all(|a| a.is_link_local() && !matches!(a.octets()[2], 0 | 255)));
        assert_eq!(of(7), of(7));
        all.sort();
        all.dedup();
        // Of 256 draws from 65,024, half an equal pair is expected.
        assert!(all.len() >= 254, "{}", all.len());
    }

    #[test]
    fn no_hardware_address_gives_no_address() {
        assert_eq!(link_local(&[]), None);
        assert_eq!(link_local(&[0; 6]), None);
    }
}
