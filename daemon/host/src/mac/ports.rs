//! Which interface, RDMA device and peer each Thunderbolt port has, from three tools at once.
//!
//! ```text
//!   system_profiler: domain AAAA, socket 4, peer BBBB ─┐
//!   networksetup:    `Thunderbolt 4` is en5 ───────────┼─▶ en5, rdma_en5, AAAA, BBBB
//!   ibv_devices:     rdma_en5 is there ────────────────┘
//! ```
//!
//! Numbers of interfaces change when adapters come and go, so this is read anew at every boot and
//! whenever a link changes. Nothing is guessed: what fits in two ways is an error that names both.

use tandem_policy::{PORTS_MAX, ThunderboltPort, invariant::Unknown};

use super::{
    answer::{text, unparsed, whole},
    hardware_ports::{self, HardwarePort},
    rdma::{self, Device},
    system::Runner,
    thunderbolt::{self, Bus},
    tools,
};
use crate::probes::Answer;

/// Why ports can't be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// A hardware port of one name has several interfaces.
    #[error(
        "the port `{port}` is {first} as well as {second}: see `networksetup -listallhardwareports`"
    )]
    Interface {
        /// The hardware port.
        port: String,
        /// One of its interfaces.
        first: String,
        /// Another one.
        second: String,
    },
    /// One interface belongs to several hardware ports.
    #[error(
        "{interface} is the port `{first}` as well as `{second}`: see `networksetup \
         -listallhardwareports`"
    )]
    Port {
        /// The interface.
        interface: String,
        /// One of its ports.
        first: String,
        /// Another one.
        second: String,
    },
    /// Two buses have a socket of the same number.
    #[error("two Thunderbolt buses have socket {0}: see `system_profiler SPThunderboltDataType`")]
    Socket(u32),
    /// Two buses name themselves alike.
    #[error(
        "two Thunderbolt ports have the domain {0}: see `system_profiler SPThunderboltDataType`"
    )]
    Domain(String),
    /// Several machines are at the other end of one cable.
    #[error(
        "{interface} leads to the domain {first} as well as to {second}: connect the other Mac alone \
         to this port"
    )]
    Peer {
        /// The interface.
        interface: String,
        /// One of them.
        first: String,
        /// Another one.
        second: String,
    },
    /// One RDMA device is listed twice.
    #[error("the RDMA device {0} is listed twice: see `ibv_devices`")]
    Device(String),
    /// There are more ports than one machine can have.
    #[error(
        "{0} Thunderbolt ports were found, more than a Mac has: see `system_profiler SPThunderboltDataType`"
    )]
    Ports(usize),
}

/// Reads all three, in seconds. Needs no privilege. Bounded by the tools' own time limits.
///
/// # Errors
/// A tool's, that an answer is in an unknown form, or what is ambiguous.
pub fn read(runner: &impl Runner) -> Answer<Vec<ThunderboltPort>> {
    let report = text(runner, &tools::thunderbolt_report())?;
    let buses = thunderbolt::parse(&report).map_err(unparsed)?;
    let hardware = hardware(runner)?;
    let devices = devices(runner)?;
    join(&buses, &hardware, &devices).map_err(|error| Unknown::Failed(error.to_string()))
}

/// Every socket of the machine with its interface.
pub(super) fn hardware(runner: &impl Runner) -> Answer<Vec<HardwarePort>> {
    hardware_ports::parse(&whole(runner, &tools::hardware_ports())?).map_err(unparsed)
}

/// The RDMA devices.
pub(super) fn devices(runner: &impl Runner) -> Answer<Vec<Device>> {
    rdma::parse_devices(&whole(runner, &tools::rdma_devices())?).map_err(unparsed)
}

/// Joins what the three tools say, in the order of the report. A socket without an interface or
/// without a domain carries no link of ours and is left out.
///
/// # Errors
/// What is ambiguous.
pub fn join(
    buses: &[Bus],
    hardware: &[HardwarePort],
    devices: &[Device],
) -> Result<Vec<ThunderboltPort>, Ambiguous> {
    let mut sockets = Vec::new();
    let mut ports: Vec<ThunderboltPort> = Vec::new();
    for bus in buses {
        let Some(socket) = bus.receptacle.as_ref().map(|receptacle| receptacle.id) else {
            continue;
        };
        if sockets.contains(&socket) {
            return Err(Ambiguous::Socket(socket));
        }
        sockets.push(socket);
        let Some(interface) = interface_of(hardware, &port_name(socket))? else { continue };
        let Some(domain) = &bus.domain_uuid else { continue };
        let domain_uuid = domain.to_ascii_uppercase();
        if ports.iter().any(|port| port.domain_uuid == domain_uuid) {
            return Err(Ambiguous::Domain(domain_uuid));
        }
        let peer_domain_uuid = peer(bus, interface)?;
        let rdma_device = device_of(devices, interface)?;
        let interface = interface.to_owned();
        ports.push(ThunderboltPort { interface, rdma_device, domain_uuid, peer_domain_uuid });
    }
    if ports.len() > PORTS_MAX {
        return Err(Ambiguous::Ports(ports.len()));
    }
    Ok(ports)
}

/// The name of a socket's hardware port.
fn port_name(socket: u32) -> String {
    format!("Thunderbolt {socket}")
}

/// The interface of the hardware port of this name, which no other port may claim.
fn interface_of<'a>(
    hardware: &'a [HardwarePort],
    name: &str,
) -> Result<Option<&'a str>, Ambiguous> {
    let mut devices = hardware.iter().filter(|port| port.name == name).map(|port| &port.device);
    let Some(interface) = devices.next() else { return Ok(None) };
    if let Some(second) = devices.next() {
        let (port, first, second) = (name.into(), interface.clone(), second.clone());
        return Err(Ambiguous::Interface { port, first, second });
    }
    port_of(hardware, interface)?;
    Ok(Some(interface))
}

/// The one hardware port of an interface; `None` if there is none.
///
/// # Errors
/// It belongs to several.
pub fn port_of<'a>(
    hardware: &'a [HardwarePort],
    interface: &str,
) -> Result<Option<&'a HardwarePort>, Ambiguous> {
    let mut ports = hardware.iter().filter(|port| port.device == interface);
    let first = ports.next();
    match (first, ports.next()) {
        (Some(first), Some(second)) => Err(Ambiguous::Port {
            interface: interface.into(),
            first: first.name.clone(),
            second: second.name.clone(),
        }),
        _ => Ok(first),
    }
}

/// Whether it is one of the machine's Thunderbolt sockets, and not their bridge or an adapter.
pub fn is_thunderbolt(port: &HardwarePort) -> bool {
    port.name.strip_prefix("Thunderbolt ").is_some_and(|socket| socket.parse::<u32>().is_ok())
}

/// The RDMA device of an interface, if the system lists it.
///
/// # Errors
/// It is listed twice.
pub fn device_of(devices: &[Device], interface: &str) -> Result<Option<String>, Ambiguous> {
    let name = rdma::device_name(interface);
    match devices.iter().filter(|device| device.name == name).count() {
        0 => Ok(None),
        1 => Ok(Some(name)),
        _ => Err(Ambiguous::Device(name)),
    }
}

/// The domain at the other end of a bus's cable.
fn peer(bus: &Bus, interface: &str) -> Result<Option<String>, Ambiguous> {
    let mut domains = bus.peers.iter().map(|peer| peer.domain_uuid.to_ascii_uppercase());
    let first = domains.next();
    let second = domains.find(|domain| first.as_ref() != Some(domain));
    match (first, second) {
        (Some(first), Some(second)) => {
            Err(Ambiguous::Peer { interface: interface.into(), first, second })
        }
        (first, _) => Ok(first),
    }
}
