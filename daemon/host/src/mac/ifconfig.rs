//! Interfaces: `/sbin/ifconfig -a`, or of one interface.
//!
//! Source: ifconfig(8): a line that starts with the interface's name, and indented lines about it.

use std::net::Ipv4Addr;

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "ifconfig";

/// `IFF_UP` of `<net/if.h>`: an administrator wants it.
pub const IFF_UP: u32 = 0x1;
/// `IFF_RUNNING` of `<net/if.h>`: the driver has its resources.
pub const IFF_RUNNING: u32 = 0x40;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, such as `en5`.
    pub name: String,
    /// Its `IFF_` flags.
    pub flags: u32,
    /// Its MTU, in bytes.
    pub mtu_bytes: u64,
    /// Its IPv4 addresses, in the order printed.
    pub ipv4: Vec<Ipv4Addr>,
    /// What `status:` says, `active` or `inactive` as a rule.
    pub status: Option<String>,
    /// For a bridge, the interfaces in it.
    pub members: Vec<String>,
}

/// Reads the whole answer.
///
/// # Errors
/// No interface, a first line of another form or not at the margin, an IPv4 address that is none, or
/// an indented line before the first interface. Lines about other things are not read.
pub fn parse(text: &str) -> Result<Vec<Interface>, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let mut interfaces: Vec<Interface> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with(char::is_whitespace) {
            let interface = first_line(line)
                .ok_or_else(|| Unparsed::form(TOOL, "`NAME: flags=HEX<…> mtu N`", line))?;
            interfaces.push(interface);
            continue;
        }
        let Some(interface) = interfaces.last_mut() else {
            return Err(Unparsed::form(TOOL, "an interface's name first", line));
        };
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("inet"), address) => {
                let address = address.and_then(|word| word.parse().ok());
                let wrong = || Unparsed::form(TOOL, "an IPv4 address after `inet`", line);
                interface.ipv4.push(address.ok_or_else(wrong)?);
            }
            (Some("member:"), Some(member)) => interface.members.push(member.into()),
            (Some("status:"), Some(status)) => interface.status = Some(status.into()),
            // Its lines would pass for those of the interface before it.
            (Some(_), Some(flags)) if flags.starts_with("flags=") => {
                return Err(Unparsed::form(TOOL, "an interface's name at the margin", line));
            }
            (Some("member:" | "status:"), None) => {
                return Err(Unparsed::form(TOOL, "a word after the colon", line));
            }
            _ => {}
        }
    }
    if interfaces.is_empty() {
        return Err(Unparsed::form(TOOL, "an interface", text));
    }
    Ok(interfaces)
}

/// `en5: flags=8863<UP,BROADCAST,RUNNING> mtu 9000`, and with `-v` more after it.
fn first_line(line: &str) -> Option<Interface> {
    let (name, rest) = line.split_once(": flags=")?;
    let (flags, rest) = rest.split_once('<')?;
    let (_names, rest) = rest.split_once('>')?;
    let mut words = rest.split_whitespace();
    let mtu = words.find(|word| *word == "mtu").and_then(|_| words.next())?;
    let name = Some(name).filter(|name| !name.is_empty() && !name.contains(char::is_whitespace))?;
    Some(Interface {
        name: name.into(),
        flags: u32::from_str_radix(flags, 16).ok()?,
        mtu_bytes: mtu.parse().ok()?,
        ipv4: Vec::new(),
        status: None,
        members: Vec::new(),
    })
}

impl Interface {
    /// Whether it is up and running.
    pub fn is_running(&self) -> bool {
        self.flags & IFF_UP != 0 && self.flags & IFF_RUNNING != 0
    }

    /// For `LinkMtu`: the MTU, in bytes.
    pub fn link_mtu(&self) -> Found {
        Found::Count(self.mtu_bytes)
    }

    /// For `LinkAddress`: the IPv4 addresses.
    pub fn link_address(&self) -> Found {
        Found::Names(self.ipv4.iter().map(Ipv4Addr::to_string).collect())
    }
}

/// For `LinkUnbridged`: no bridge has this interface as a member. It takes the answer of
/// `ifconfig -a`, for a port can be put into any bridge.
///
/// # Errors
/// The interface or `lo0`, which every Mac has, is missing: the list is not of all interfaces.
pub fn link_unbridged(all: &[Interface], name: &str) -> Result<Found, Unparsed> {
    let has = |wanted: &str| all.iter().any(|interface| interface.name == wanted);
    if !has("lo0") || !has(name) {
        let what = "all interfaces, `lo0` and the link's own among them";
        return Err(Unparsed::Absent { tool: TOOL, what });
    }
    let bridged = all.iter().any(|i| i.members.iter().any(|member| member == name));
    Ok(Found::Flag(!bridged))
}
