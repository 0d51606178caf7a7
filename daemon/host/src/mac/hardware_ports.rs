//! Which interface belongs to which socket of the machine:
//! `/usr/sbin/networksetup -listallhardwareports`.
//!
//! Source: networksetup(8): for each port its name, its device and its hardware address; then the
//! VLANs, which are not read.

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "networksetup -listallhardwareports";

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardwarePort {
    /// Its name, such as `Thunderbolt 2`.
    pub name: String,
    /// Its interface, such as `en5`.
    pub device: String,
}

/// Reads the whole answer.
///
/// # Errors
/// No port, a port without a device, or a line that belongs to none.
pub fn parse(text: &str) -> Result<Vec<HardwarePort>, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let mut ports = Vec::new();
    let mut name: Option<&str> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line == "VLAN Configurations" {
            break;
        }
        match (line.split_once(": "), name) {
            (Some(("Hardware Port", next)), None) => name = Some(next),
            (Some(("Device", device)), Some(port)) => {
                ports.push(HardwarePort { name: port.into(), device: device.into() });
                name = None;
            }
            (Some(("Ethernet Address", _)), None) if !ports.is_empty() => {}
            _ => return Err(Unparsed::form(TOOL, "a port, then its device and address", line)),
        }
    }
    match name {
        Some(port) => Err(Unparsed::form(TOOL, "the device of the last port", port)),
        None if ports.is_empty() => Err(Unparsed::form(TOOL, "`Hardware Port: …`", text)),
        None => Ok(ports),
    }
}

/// The interface of the port of this name.
pub fn device_of<'a>(ports: &'a [HardwarePort], name: &str) -> Option<&'a str> {
    ports.iter().find(|port| port.name == name).map(|port| port.device.as_str())
}
