//! RDMA over Thunderbolt: the switch (`/usr/bin/rdma_ctl status`), the devices
//! (`/usr/bin/ibv_devices`) and their ports (`/usr/bin/ibv_devinfo`, with `-v` for the GIDs).
//!
//! Source: Apple's TN3205, ibv_devices(1) and ibv_devinfo(1) of rdma-core, and the names of
//! `enum ibv_port_state` in its `verbs.h`. These tools can hang in the kernel: whoever runs them
//! runs one at a time, with a deadline, and not again after one hung.

use std::net::{Ipv4Addr, Ipv6Addr};

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const RDMA_CTL: &str = "rdma_ctl status";
const IBV_DEVICES: &str = "ibv_devices";
const IBV_DEVINFO: &str = "ibv_devinfo";

/// The switch in the firmware; only the recovery system changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `enabled`. A Mac with Thunderbolt 4 says so too, and has no device.
    Enabled,
    /// `disabled`.
    Disabled,
}

/// Reads the answer of `rdma_ctl status`.
///
/// # Errors
/// Any other word, such as a shell's complaint that there is no such tool.
pub fn parse_status(text: &str) -> Result<Switch, Unparsed> {
    Unparsed::bound(RDMA_CTL, text.len(), TEXT_BYTES_MAX)?;
    match text.trim() {
        "enabled" => Ok(Switch::Enabled),
        "disabled" => Ok(Switch::Disabled),
        other => Err(Unparsed::form(RDMA_CTL, "`enabled` or `disabled`", other)),
    }
}

impl Switch {
    /// For `RdmaEnabled`.
    pub fn rdma_enabled(self) -> Found {
        Found::Flag(self == Self::Enabled)
    }
}

/// The RDMA device of an interface: `rdma_en5` of `en5`.
pub fn device_name(interface: &str) -> String {
    format!("rdma_{interface}")
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Such as `rdma_en5`.
    pub name: String,
    /// Its node GUID.
    pub node_guid: u64,
}

/// Reads the answer of `ibv_devices`: two lines of heading, then a device a line, or none.
///
/// # Errors
/// Another heading, or a line that is not a name and a GUID of 16 hexadecimal digits.
pub fn parse_devices(text: &str) -> Result<Vec<Device>, Unparsed> {
    Unparsed::bound(IBV_DEVICES, text.len(), TEXT_BYTES_MAX)?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let heading = lines.next().unwrap_or_default();
    if !heading.split_whitespace().eq(["device", "node", "GUID"]) {
        return Err(Unparsed::form(IBV_DEVICES, "the heading `device … node GUID`", text));
    }
    let rule = lines.next().unwrap_or_default();
    if !rule.contains("--") || !rule.chars().all(|c| c == '-' || c.is_whitespace()) {
        return Err(Unparsed::form(IBV_DEVICES, "a line of dashes", rule));
    }
    let device = |line: &str| {
        let (name, guid) = line.trim().split_once(char::is_whitespace)?;
        let guid = guid.trim_start();
        // `from_str_radix` would take a sign.
        let digits = guid.len() == 16 && guid.bytes().all(|byte| byte.is_ascii_hexdigit());
        let node_guid = u64::from_str_radix(guid, 16).ok().filter(|_| digits)?;
        Some(Device { name: name.into(), node_guid })
    };
    lines
        .map(|line| {
            device(line).ok_or_else(|| Unparsed::form(IBV_DEVICES, "a name and a GUID", line))
        })
        .collect()
}

/// A device with its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Such as `rdma_en5`.
    pub name: String,
    /// Its ports; Thunderbolt devices have one.
    pub ports: Vec<Port>,
}

/// A port of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Counted from 1.
    pub number: u32,
    /// Its state.
    pub state: PortState,
    /// Its addresses, where `-v` was given. The first IPv4-mapped one is what MLX uses.
    pub gids: Vec<Ipv6Addr>,
}

impl Port {
    /// The IPv4 address of the first IPv4-mapped GID.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.gids.iter().find_map(Ipv6Addr::to_ipv4_mapped)
    }
}

/// `enum ibv_port_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// `PORT_NOP (0)`.
    Nop,
    /// `PORT_DOWN (1)`: no cable, or no peer with RDMA.
    Down,
    /// `PORT_INIT (2)`.
    Init,
    /// `PORT_ARMED (3)`.
    Armed,
    /// `PORT_ACTIVE (4)`.
    Active,
    /// `PORT_ACTIVE_DEFER (5)`.
    ActiveDefer,
}

impl PortState {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "PORT_NOP (0)" => Self::Nop,
            "PORT_DOWN (1)" => Self::Down,
            "PORT_INIT (2)" => Self::Init,
            "PORT_ARMED (3)" => Self::Armed,
            "PORT_ACTIVE (4)" => Self::Active,
            "PORT_ACTIVE_DEFER (5)" => Self::ActiveDefer,
            _ => return None,
        })
    }
}

/// Reads the answer of `ibv_devinfo`, with or without `-d` and `-v`.
///
/// # Errors
/// No device, a line at the margin that is no device, a device with other ports than it counts, a
/// port without a state, or a state, number or GID that is not known. Other attributes are not read.
pub fn parse_devinfo(text: &str) -> Result<Vec<DeviceInfo>, Unparsed> {
    Unparsed::bound(IBV_DEVINFO, text.len(), TEXT_BYTES_MAX)?;
    let mut reading = Reading::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (key, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        let margin = !line.starts_with(char::is_whitespace);
        let taken = if margin == (key == "hca_id") {
            reading.take(key.trim_end(), value.trim())
        } else {
            None
        };
        taken.ok_or_else(|| {
            Unparsed::form(IBV_DEVINFO, "hca_id, ports, states and GIDs in their places", line)
        })?;
    }
    reading.end_device().ok_or_else(|| {
        Unparsed::form(IBV_DEVINFO, "`hca_id: …` with its ports and their states", text)
    })?;
    Ok(reading.devices)
}

/// The devices read so far; the last is not whole yet.
#[derive(Default)]
struct Reading {
    devices: Vec<DeviceInfo>,
    /// `phys_port_cnt` of the last.
    port_count: Option<usize>,
    /// Its port whose state was not read yet.
    port: Option<u32>,
}

impl Reading {
    /// `None` is a line that is out of place or holds what is not known.
    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "hca_id" if value.is_empty() => return None,
            "hca_id" => {
                if !self.devices.is_empty() {
                    self.end_device()?;
                }
                self.port_count = None;
                self.devices.push(DeviceInfo { name: value.into(), ports: Vec::new() });
            }
            "phys_port_cnt" => self.port_count = Some(value.parse().ok()?),
            "port" if self.port.is_none() => self.port = Some(value.parse().ok()?),
            "port" => return None,
            "state" => {
                let (number, state) = (self.port.take()?, PortState::of(value)?);
                self.devices.last_mut()?.ports.push(Port { number, state, gids: Vec::new() });
            }
            _ if key.starts_with("GID[") => {
                // Elsewhere the type of RoCE follows after a comma.
                let gid = value.split(',').next()?.trim();
                self.devices.last_mut()?.ports.last_mut()?.gids.push(gid.parse().ok()?);
            }
            _ => {}
        }
        Some(())
    }

    /// The last device is whole. Without the count, ports of a device whose name was lost would
    /// pass for those of the device before it.
    fn end_device(&self) -> Option<()> {
        let ports = self.devices.last()?.ports.len();
        (ports > 0 && self.port_count == Some(ports) && self.port.is_none()).then_some(())
    }
}

/// For `RdmaActive`: the device of this interface is among these, and its port is active. Another
/// device's active port does not count.
pub fn rdma_active(devices: &[DeviceInfo], interface: &str) -> Found {
    let name = device_name(interface);
    let own = devices.iter().find(|device| device.name == name);
    Found::Flag(own.is_some_and(|device| {
        // A Thunderbolt device has port 1 alone, and that is the one MLX opens.
        device.ports.iter().any(|port| port.number == 1 && port.state == PortState::Active)
    }))
}
