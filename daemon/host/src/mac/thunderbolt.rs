//! Thunderbolt sockets and who is at the other end of their cables:
//! `/usr/sbin/system_profiler SPThunderboltDataType -json`.
//!
//! Source: system_profiler(8) and the reports of Macs; MLX's `distributed_config` and exo map
//! sockets to interfaces in the same way. Interface numbers change when adapters come and go, so a
//! socket is followed by its receptacle: `receptacle_id_key` 2 is the hardware port
//! `Thunderbolt 2`, whose device `enN` has the RDMA device `rdma_enN`.

use serde::Deserialize;
use serde_json::Value;

use super::{SEEN_BYTES_MAX, Unparsed, hardware_ports, hardware_ports::HardwarePort, rdma};

const TOOL: &str = "system_profiler SPThunderboltDataType -json";

/// Longest report that is read, in bytes. One of a Mac Studio with docks is about 20 KiB.
pub const REPORT_BYTES_MAX: usize = 1 << 20;

/// Most buses that are read: ten times as many as a Mac Studio has sockets.
pub const BUSES_MAX: usize = 64;

/// The protocol number under which a Mac offers RDMA to the one at the other end.
const RDMA_PROTOCOL_ID: u64 = 0xFA57;

/// One Thunderbolt controller with its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// Its name in the report.
    pub name: String,
    /// Names this end of the cable; it is the machine's, and stays over reboots.
    pub domain_uuid: Option<String>,
    /// Its socket.
    pub receptacle: Option<Receptacle>,
    /// The Macs plugged in directly. A dock or a disk has no domain and is not among them.
    pub peers: Vec<Peer>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receptacle {
    /// Its number on the machine.
    pub id: u32,
    /// As printed: `80 Gb/s` of a link, `Up to 120 Gb/s` of an empty socket.
    pub speed: String,
    /// Whether anything is plugged in and linked.
    pub connected: bool,
}

/// A Mac at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it calls itself.
    pub name: String,
    /// The domain of its end of the cable.
    pub domain_uuid: String,
    /// Whether it offers RDMA, which it does only when RDMA is switched on there.
    pub offers_rdma: bool,
}

#[derive(Deserialize)]
struct Report {
    #[serde(rename = "SPThunderboltDataType")]
    buses: Vec<RawBus>,
}

#[derive(Deserialize)]
struct RawBus {
    #[serde(rename = "_name")]
    name: String,
    domain_uuid_key: Option<String>,
    receptacle_1_tag: Option<RawReceptacle>,
    #[serde(rename = "_items", default)]
    items: Vec<RawItem>,
}

#[derive(Deserialize)]
struct RawReceptacle {
    receptacle_id_key: Option<String>,
    current_speed_key: String,
    receptacle_status_key: String,
}

#[derive(Deserialize)]
struct RawItem {
    #[serde(rename = "_name")]
    name: String,
    domain_uuid_key: Option<String>,
    #[serde(default)]
    services_title: Vec<RawService>,
}

#[derive(Deserialize)]
struct RawService {
    protocol_id_key: Option<Value>,
    service_key_key: Option<Value>,
}

/// Reads the whole report. A Mac without Thunderbolt has no bus.
///
/// # Errors
/// Not JSON of this form, more than [`BUSES_MAX`], or a socket with a number or a status that is not known.
pub fn parse(json: &str) -> Result<Vec<Bus>, Unparsed> {
    Unparsed::bound(TOOL, json.len(), REPORT_BYTES_MAX)?;
    let report: Report = serde_json::from_str(json).map_err(|error| {
        let start: String = json.trim_start().chars().take(SEEN_BYTES_MAX).collect();
        let seen = format!("{error} in {start}");
        Unparsed::form(TOOL, "a report of Thunderbolt buses", &seen)
    })?;
    if report.buses.len() > BUSES_MAX {
        let seen = report.buses.len().to_string();
        return Err(Unparsed::form(TOOL, "at most 64 buses", &seen));
    }
    report.buses.into_iter().map(bus).collect()
}

fn bus(raw: RawBus) -> Result<Bus, Unparsed> {
    let receptacle = match raw.receptacle_1_tag {
        // Old controllers do not number their sockets; RDMA needs newer ones.
        None | Some(RawReceptacle { receptacle_id_key: None, .. }) => None,
        Some(RawReceptacle {
            receptacle_id_key: Some(id),
            current_speed_key,
            receptacle_status_key,
        }) => Some(Receptacle {
            id: id.parse().map_err(|_| Unparsed::form(TOOL, "a receptacle's number", &id))?,
            speed: current_speed_key,
            connected: connected(&receptacle_status_key)?,
        }),
    };
    let peers = raw.items.into_iter().filter_map(peer).collect();
    Ok(Bus { name: raw.name, domain_uuid: raw.domain_uuid_key, receptacle, peers })
}

fn connected(status: &str) -> Result<bool, Unparsed> {
    match status {
        "receptacle_connected" => Ok(true),
        "receptacle_no_devices_connected" => Ok(false),
        other => Err(Unparsed::form(TOOL, "a known status of a receptacle", other)),
    }
}

fn peer(raw: RawItem) -> Option<Peer> {
    let domain_uuid = raw.domain_uuid_key?;
    // Older reports print the key, newer ones a garbled one: the number is the same.
    let offers_rdma = raw.services_title.iter().any(|service| {
        service.protocol_id_key.as_ref().and_then(Value::as_u64) == Some(RDMA_PROTOCOL_ID)
            || service.service_key_key.as_ref().and_then(Value::as_str) == Some("rdma")
    });
    Some(Peer { name: raw.name, domain_uuid, offers_rdma })
}

/// A socket with the interface and the RDMA device behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The socket's number on the machine.
    pub receptacle: u32,
    /// Its interface, such as `en5`.
    pub interface: String,
    /// Its RDMA device, such as `rdma_en5`; whether that is there is another question.
    pub rdma_device: String,
    /// This end's domain.
    pub domain_uuid: String,
    /// The Macs at the other end.
    pub peers: Vec<Peer>,
}

/// The sockets that have an interface, in the report's order.
pub fn ports(buses: &[Bus], hardware: &[HardwarePort]) -> Vec<Port> {
    let port = |bus: &Bus| {
        let receptacle = bus.receptacle.as_ref()?.id;
        let interface = hardware_ports::device_of(hardware, &format!("Thunderbolt {receptacle}"))?;
        Some(Port {
            receptacle,
            interface: interface.into(),
            rdma_device: rdma::device_name(interface),
            domain_uuid: bus.domain_uuid.clone()?,
            peers: bus.peers.clone(),
        })
    };
    buses.iter().filter_map(port).collect()
}

/// A cable: one port of each Mac.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// This Mac's end.
    pub mine: &'a Port,
    /// The other's end.
    pub theirs: &'a Port,
}

/// The cables between two Macs. Both reports must agree: each end names the other's domain.
pub fn links<'a>(mine: &'a [Port], theirs: &'a [Port]) -> Vec<Link<'a>> {
    let names = |port: &Port, other: &Port| {
        port.peers.iter().any(|peer| peer.domain_uuid.eq_ignore_ascii_case(&other.domain_uuid))
    };
    mine.iter()
        .flat_map(|mine| theirs.iter().map(move |theirs| Link { mine, theirs }))
        .filter(|link| names(link.mine, link.theirs) && names(link.theirs, link.mine))
        .collect()
}
