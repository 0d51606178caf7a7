//! The tools that are started, each by its absolute path, with its arguments and bounds. A tool is
//! used only where the system offers nothing else to a program.
//!
//! Those named *set* need root, and what they set is still set after a reboot.

use crate::probes::Tool;

use super::{defaults::Preference, thunderbolt::REPORT_BYTES_MAX};

const NETWORKSETUP: &str = "/usr/sbin/networksetup";
const SYSTEMSETUP: &str = "/usr/sbin/systemsetup";
const PMSET: &str = "/usr/bin/pmset";
const MDUTIL: &str = "/usr/bin/mdutil";
const DEFAULTS: &str = "/usr/bin/defaults";
const SOFTWAREUPDATE: &str = "/usr/sbin/softwareupdate";
const SOCKETFILTERFW: &str = "/usr/libexec/ApplicationFirewall/socketfilterfw";

/// `system_profiler` takes seconds, and more on a machine with docks; others that use it wait as long.
const REPORT_TIMEOUT_MS: u64 = 30_000;

/// Every socket of the machine, with its interface's name.
pub fn hardware_ports() -> Tool {
    Tool::new(NETWORKSETUP, &["-listallhardwareports"])
}

/// The Thunderbolt sockets, and what is at the other end of their cables.
pub fn thunderbolt_report() -> Tool {
    Tool::new("/usr/sbin/system_profiler", &["SPThunderboltDataType", "-json"])
        .within(REPORT_TIMEOUT_MS)
        .writing(REPORT_BYTES_MAX as u64)
}

/// Whether RDMA is switched on in the firmware. Only the recovery system can set it.
pub fn rdma_status() -> Tool {
    Tool::new("/usr/bin/rdma_ctl", &["status"])
}

/// The RDMA devices.
pub fn rdma_devices() -> Tool {
    Tool::new("/usr/bin/ibv_devices", &[]).asking_driver()
}

/// The state of one RDMA device's ports.
pub fn rdma_device(name: &str) -> Tool {
    Tool::new("/usr/bin/ibv_devinfo", &["-d", name]).asking_driver()
}

/// An interface's MTU, in use and stored.
pub fn mtu(link: &str) -> Tool {
    Tool::new(NETWORKSETUP, &["-getMTU", link])
}

/// Stores an interface's MTU in the network location in use, in bytes.
pub fn set_mtu(link: &str, mtu_bytes: u32) -> Tool {
    Tool::new(NETWORKSETUP, &["-setMTU", link, &mtu_bytes.to_string()])
}

/// The network services of the location in use, in their order.
pub fn services() -> Tool {
    Tool::new(NETWORKSETUP, &["-listnetworkserviceorder"])
}

/// How a network service gets its addresses.
pub fn service_info(service: &str) -> Tool {
    Tool::new(NETWORKSETUP, &["-getinfo", service])
}

/// Sets up a network service for a hardware port.
pub fn set_service(service: &str, port: &str) -> Tool {
    Tool::new(NETWORKSETUP, &["-createnetworkservice", service, port])
}

/// Gives a network service one fixed IPv4 address, and no router.
pub fn set_address(service: &str, address: &str, mask: &str) -> Tool {
    Tool::new(NETWORKSETUP, &["-setmanual", service, address, mask])
}

/// Sets the order of the network services, all of which must be named.
pub fn set_service_order(services: &[&str]) -> Tool {
    Tool::new(NETWORKSETUP, &[&["-ordernetworkservices"][..], services].concat())
}

/// The power settings in use.
pub fn power() -> Tool {
    Tool::new(PMSET, &["-g"])
}

/// Sets one power key, for every source of power.
pub fn set_power(key: &str, value: u32) -> Tool {
    Tool::new(PMSET, &["-a", key, &value.to_string()])
}

/// What Spotlight does with each volume.
pub fn spotlight() -> Tool {
    Tool::new(MDUTIL, &["-a", "-s"])
}

/// Turns Spotlight's indexing of one volume off.
pub fn set_spotlight_off(volume: &str) -> Tool {
    Tool::new(MDUTIL, &["-i", "off", volume])
}

/// One preference.
pub fn preference(preference: &Preference) -> Tool {
    Tool::new(DEFAULTS, &["read", preference.domain, preference.key])
}

/// Sets one preference to off.
pub fn set_preference_off(preference: &Preference) -> Tool {
    Tool::new(DEFAULTS, &["write", preference.domain, preference.key, "-bool", "false"])
}

/// Stops the system from looking for updates by itself.
pub fn set_update_schedule_off() -> Tool {
    Tool::new(SOFTWAREUPDATE, &["--schedule", "off"])
}

/// Whether FileVault is on. It is never set, and no credential is ever asked for.
pub fn file_vault() -> Tool {
    Tool::new("/usr/bin/fdesetup", &["status"])
}

/// Whether the clock follows a time server. Reading needs root too.
pub fn network_time() -> Tool {
    Tool::new(SYSTEMSETUP, &["-getusingnetworktime"])
}

/// Lets the clock follow a time server.
pub fn set_network_time_on() -> Tool {
    Tool::new(SYSTEMSETUP, &["-setusingnetworktime", "on"])
}

/// What the firewall does on the whole.
pub fn firewall() -> Tool {
    Tool::new(SOCKETFILTERFW, &["--getglobalstate"])
}

/// The programs that the firewall has a rule for.
pub fn firewall_rules() -> Tool {
    Tool::new(SOCKETFILTERFW, &["--listapps"])
}
