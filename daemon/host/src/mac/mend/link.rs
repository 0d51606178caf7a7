//! The Thunderbolt port: its MTU, its address, and that it is in no bridge.

use std::{io, net::Ipv4Addr};

use super::{
    super::{
        answer::{text, unparsed, whole},
        network_setup, ports, read,
        services::{self, Service},
    },
    Mac, MendError, NOTHING, Step,
};
use crate::{link_address, mac::tools, probes::Answer};

/// What the names of our network services begin with, by which they are known again, also to the
/// uninstaller. A port's name follows, which stays when interfaces get other numbers.
pub const SERVICE_PREFIX: &str = "Tandem ";

/// The network of link-local addresses (RFC 3927), and the bits of it.
const LINK_LOCAL_MASK: &str = "255.255.0.0";
const LINK_LOCAL_BITS: u8 = 16;

fn unmended(link: &str, what: &str, error: io::Error) -> MendError {
    if read::is_absent(&error) {
        return MendError::NoInterface(link.into());
    }
    MendError::system(format!("the {what} of {link}"), error)
}

/// Sets the MTU now, by ioctl, and stores it in the network location for the next boot. Needs root.
/// The stored one is lost when the location is switched.
pub(super) fn mtu(link: &str, mtu_bytes: u32, mac: &impl Mac) -> Result<(), MendError> {
    let found = |mac: &_| Mac::mtu_bytes(mac, link).map_err(|error| unmended(link, "MTU", error));
    if found(mac)? != mtu_bytes {
        mac.set_mtu(link, mtu_bytes).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::ERANGE | libc::EOPNOTSUPP) => {
                MendError::Mtu { link: link.into(), mtu_bytes }
            }
            _ => unmended(link, "MTU", error),
        })?;
        not_taken(&format!("the MTU of {link}"), mtu_bytes, found(mac)?, NOTHING)?;
    }
    let what = format!("storing the MTU of {link} for the next boot");
    let step = Step { what: &what, done: "the MTU is set until then" };
    let tool = tools::mtu(link);
    let stored = |mac: &_| {
        let mtu = whole(mac, &tool).and_then(|t| network_setup::parse(&t).map_err(unparsed));
        step.read(&tool, mtu).map(|mtu| mtu.setting_bytes)
    };
    if stored(mac)? == u64::from(mtu_bytes) {
        return Ok(());
    }
    step.set(mac, &tools::set_mtu(link, mtu_bytes))?;
    not_taken(&format!("the stored MTU of {link}"), u64::from(mtu_bytes), stored(mac)?, step.done)
}

/// An error unless what was set is what is found.
pub(super) fn not_taken<T: PartialEq + ToString>(
    what: &str,
    wanted: T,
    found: T,
    done: &'static str,
) -> Result<(), MendError> {
    if wanted == found {
        return Ok(());
    }
    let (wanted, found) = (wanted.to_string(), found.to_string());
    Err(MendError::NotTaken { what: what.into(), wanted, found, done })
}

/// Gives the port its link-local address, unless it has an IPv4 address: what somebody chose stays.
/// Needs root, and lasts until the next boot or until the interface goes.
pub(super) fn address(link: &str, mac: &impl Mac) -> Result<(), MendError> {
    let failed = |error| unmended(link, "address", error);
    // An interface that is not there has no address either.
    mac.mtu_bytes(link).map_err(failed)?;
    if !mac.ipv4_addresses(link).map_err(failed)?.is_empty() {
        return Ok(());
    }
    let address = own_address(link, mac)?;
    mac.add_address(link, address, LINK_LOCAL_BITS).map_err(failed)
}

fn own_address(link: &str, mac: &impl Mac) -> Result<Ipv4Addr, MendError> {
    let bytes = mac.hardware_address(link).map_err(|error| unmended(link, "address", error))?;
    link_address::link_local(&bytes).ok_or_else(|| MendError::NoHardwareAddress(link.into()))
}

/// Takes the port out of its bridge now, by ioctl, and sees to it that the port has a network service
/// of its own. Needs root. The service lasts: the system bridges, at a boot and when a cable is
/// plugged in, just those of its Thunderbolt ports that have none.
pub(super) fn unbridged(link: &str, mac: &impl Mac) -> Result<(), MendError> {
    let failed = |error| unmended(link, "bridge", error);
    mac.mtu_bytes(link).map_err(failed)?;
    if let Some(bridge) = mac.bridge_of(link).map_err(failed)? {
        mac.leave_bridge(&bridge, link).map_err(failed)?;
        let found = mac.bridge_of(link).map_err(failed)?.unwrap_or_else(|| "none".into());
        not_taken(&format!("the bridge of {link}"), "none".to_owned(), found, NOTHING)?;
    }
    own_service(link, mac)
}

/// What is done when the service is seen to.
const UNBRIDGED: &str = "the port is in no bridge now, but may be put into one again";

/// A service that somebody made is left as it is. Ours is the last choice of all, so that a server
/// that gives out addresses at the far end of the cable never takes the default route, and has the
/// port's link-local address fixed: with DHCP the system would in the end add another address of its
/// own beside it.
fn own_service(link: &str, mac: &impl Mac) -> Result<(), MendError> {
    let what = format!("giving {link} a network service of its own");
    let step = Step { what: &what, done: UNBRIDGED };
    let before = services(&step, mac)?;
    let name = match before.iter().find(|service| service.device == link) {
        Some(service) if !service.name.starts_with(SERVICE_PREFIX) => return Ok(()),
        Some(service) => service.name.clone(),
        None => make_service(link, &before, &step, mac)?,
    };
    fix_address(link, &name, mac)?;
    order_last(mac)
}

fn services(step: &Step<'_>, mac: &impl Mac) -> Result<Vec<Service>, MendError> {
    let tool = tools::services();
    let services = whole(mac, &tool).and_then(|text| services::parse(&text).map_err(unparsed));
    step.read(&tool, services)
}

/// Sets up a service for the port that the interface belongs to; its name.
fn make_service(
    link: &str,
    before: &[Service],
    step: &Step<'_>,
    mac: &impl Mac,
) -> Result<String, MendError> {
    let tool = tools::hardware_ports();
    let hardware = step.read(&tool, ports::hardware(mac))?;
    let port = ports::port_of(&hardware, link)
        .map_err(|ambiguous| step.failed(&tool, ambiguous.to_string()))?
        .filter(|port| ports::is_thunderbolt(port))
        .ok_or_else(|| step.failed(&tool, format!("{link} is no Thunderbolt port")))?;
    // Without one the new service would be left with DHCP.
    own_address(link, mac)?;
    let mut name = format!("{SERVICE_PREFIX}{}", port.name);
    if before.iter().any(|service| service.name == name) {
        // It is of an interface that this port once was.
        name = format!("{name} {link}");
    }
    step.set(mac, &tools::set_service(&name, &port.name))?;
    let after = services(step, mac)?;
    let own = after.into_iter().find(|service| service.device == link);
    let found = own.map_or_else(|| "none".into(), |service| service.name);
    not_taken(&format!("the network service of {link}"), name.clone(), found, step.done)?;
    Ok(name)
}

fn fix_address(link: &str, service: &str, mac: &impl Mac) -> Result<(), MendError> {
    let what = format!("fixing the address of the network service `{service}`");
    let step = Step { what: &what, done: UNBRIDGED };
    let address = own_address(link, mac)?;
    let tool = tools::service_info(service);
    let is_fixed = |mac: &_| {
        let info: Answer<bool> = text(mac, &tool)
            .and_then(|text| services::has_fixed_address(&text, address).map_err(unparsed));
        step.read(&tool, info)
    };
    if is_fixed(mac)? {
        return Ok(());
    }
    let set = tools::set_address(service, &address.to_string(), LINK_LOCAL_MASK);
    step.set(mac, &set)?;
    if is_fixed(mac)? { Ok(()) } else { Err(step.failed(&set, "it had no effect".into())) }
}

/// Puts our services behind all others, which keep their order.
fn order_last(mac: &impl Mac) -> Result<(), MendError> {
    let step = Step { what: "ordering the network services", done: UNBRIDGED };
    let is_ours = |service: &Service| service.name.starts_with(SERVICE_PREFIX);
    let mut all = services(&step, mac)?;
    if all.is_sorted_by_key(is_ours) {
        return Ok(());
    }
    all.sort_by_key(is_ours);
    let names: Vec<&str> = all.iter().map(|service| service.name.as_str()).collect();
    let set = tools::set_service_order(&names);
    step.set(mac, &set)?;
    if services(&step, mac)?.is_sorted_by_key(is_ours) {
        return Ok(());
    }
    Err(step.failed(&set, "it had no effect".into()))
}
