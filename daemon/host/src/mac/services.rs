//! Network services in their order: `/usr/sbin/networksetup -listnetworkserviceorder`, and one of
//! them: `/usr/sbin/networksetup -getinfo SERVICE`.
//!
//! Source: networksetup(8): a sentence about the asterisk, then for each service a line with its
//! place and name (`(2) Wi-Fi`, or `(*) Wi-Fi` and `(*2) Wi-Fi` of one that is disabled) and a line
//! with its hardware port and device.

use std::net::Ipv4Addr;

use super::{TEXT_BYTES_MAX, Unparsed};

const ORDER: &str = "networksetup -listnetworkserviceorder";
const INFO: &str = "networksetup -getinfo";

/// A network service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Whether it is used.
    pub is_enabled: bool,
    /// Its hardware port, such as `Thunderbolt 4`.
    pub port: String,
    /// Its interface, such as `en5`; empty for some, such as a VPN's.
    pub device: String,
}

/// Reads the whole list, first choice first.
///
/// # Errors
/// No sentence about the asterisk, so that this is another answer; a service without a port; or
/// a line that is neither. A location may have no service.
pub fn parse(text: &str) -> Result<Vec<Service>, Unparsed> {
    Unparsed::bound(ORDER, text.len(), TEXT_BYTES_MAX)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let heading = lines.next().unwrap_or_default();
    if !heading.starts_with("An asterisk (*) denotes") {
        return Err(Unparsed::form(ORDER, "the sentence about the asterisk", heading));
    }
    let mut services = Vec::new();
    while let Some(line) = lines.next() {
        let wrong = |wanted| Unparsed::form(ORDER, wanted, line);
        let (name, is_enabled) = name(line).ok_or_else(|| wrong("`(PLACE) NAME`"))?;
        let (port, device) = lines
            .next()
            .and_then(port)
            .ok_or_else(|| wrong("`(Hardware Port: PORT, Device: DEVICE)` after"))?;
        let (name, port, device) = (name.into(), port.into(), device.into());
        services.push(Service { name, is_enabled, port, device });
    }
    Ok(services)
}

/// The name, and whether the service is enabled.
fn name(line: &str) -> Option<(&str, bool)> {
    let (place, name) = line.strip_prefix('(')?.split_once(") ")?;
    let number = place.strip_prefix('*');
    let digits = number.unwrap_or(place);
    let is_place = digits.bytes().all(|byte| byte.is_ascii_digit()) && !place.is_empty();
    (is_place && !name.is_empty()).then_some((name, number.is_none()))
}

/// The hardware port and the device.
fn port(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("(Hardware Port: ")?.strip_suffix(')')?;
    let (port, device) = line.rsplit_once(", Device:")?;
    Some((port, device.trim()))
}

/// Whether the service has this address, fixed.
///
/// # Errors
/// It does not begin with the way in which the service gets its address.
pub fn has_fixed_address(text: &str, address: Ipv4Addr) -> Result<bool, Unparsed> {
    Unparsed::bound(INFO, text.len(), TEXT_BYTES_MAX)?;
    let way = text.trim_start().lines().next().unwrap_or_default().trim_end();
    if !way.ends_with(" Configuration") {
        return Err(Unparsed::form(INFO, "`DHCP Configuration` or another way", way));
    }
    let line = format!("IP address: {address}");
    Ok(way == "Manual Configuration" && text.lines().any(|each| each.trim() == line))
}
