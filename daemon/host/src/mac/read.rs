//! Reading one invariant of a Mac: what is found, and where.
//!
//! | invariant | source | needs root |
//! |---|---|---|
//! | link's | ioctl(2), getifaddrs(3) | no |
//! | RDMA | `rdma_ctl`, `networksetup`, `ibv_devices`, `ibv_devinfo` | no |
//! | wired limit, version | sysctl(3) | no |
//! | GPU | the I/O registry | no |
//! | disk space, open files | statvfs(3), getrlimit(2) | no |
//! | FileVault | `fdesetup` | no |
//! | power | `pmset` | no |
//! | Spotlight | `mdutil` | no |
//! | updates | `defaults` | no |
//! | clock | `systemsetup` | yes |
//! | firewall | `socketfilterfw` | no |

use std::{io, path::PathBuf};

use tandem_policy::{
    invariant::{Found, Invariant, Unknown},
    settings::Host,
};

use super::{
    Unparsed,
    answer::{text, unparsed, whole},
    defaults::{self, Setting, UPDATE_PREFERENCES},
    fdesetup,
    firewall::{self, Firewall},
    firewall_rules, mdutil,
    os_version::Version,
    pmset::{self, PowerSettings},
    ports, rdma,
    system::{Mac, Runner},
    time_sync, tools,
};
use crate::{
    disk, limits,
    probes::{Answer, Tool},
};

/// Memory that the GPU may wire, in MiB; 0 is the system's default.
pub(super) const WIRED_LIMIT: &str = "iogpu.wired_limit_mb";

/// What was found, and where.
type Seen = (Found, String);

/// Reads one invariant. `disks` are the folders whose file systems must have room.
///
/// # Errors
/// Why it is not known; a link that is not there is unknown too.
pub fn read(invariant: Invariant, host: &Host, disks: &[PathBuf], mac: &impl Mac) -> Answer<Seen> {
    match invariant {
        Invariant::LinkMtu => link_mtu(link(host)?, mac),
        Invariant::LinkAddress => link_address(link(host)?, mac),
        Invariant::LinkUnbridged => link_unbridged(link(host)?, mac),
        Invariant::RdmaEnabled => {
            let tool = tools::rdma_status();
            let switch = rdma::parse_status(&text(mac, &tool)?).map_err(unparsed)?;
            Ok((switch.rdma_enabled(), tool.to_string()))
        }
        Invariant::RdmaActive => rdma_active(link(host)?, mac),
        Invariant::WiredLimit => wired_limit(mac),
        Invariant::GpuUsable => {
            let found = mac.has_gpu().map_err(|error| failed("IOAccelerator", &error))?;
            Ok((Found::Flag(found), "I/O registry, IOAccelerator".into()))
        }
        Invariant::DiskSpace => disk::least_free(disks),
        Invariant::OpenFiles => limits::open_files(),
        Invariant::OsVersion => os_version(mac),
        Invariant::UnattendedBoot => {
            let tool = tools::file_vault();
            let state = fdesetup::parse(&text(mac, &tool)?).map_err(unparsed)?;
            Ok((state.unattended_boot(), tool.to_string()))
        }
        Invariant::SleepOff => of_power(mac, PowerSettings::sleep_off),
        Invariant::DiskSleepOff => of_power(mac, PowerSettings::disk_sleep_off),
        Invariant::PowerNapOff => of_power(mac, PowerSettings::power_nap_off),
        Invariant::LowPowerOff => of_power(mac, PowerSettings::low_power_off),
        Invariant::RestartAfterPowerLoss => of_power(mac, PowerSettings::restart_after_power_loss),
        Invariant::SpotlightOff => {
            let found = mdutil::spotlight_off(&volumes(mac)?).map_err(unparsed)?;
            Ok((found, tools::spotlight().to_string()))
        }
        Invariant::AutomaticUpdatesOff => {
            let found = defaults::automatic_updates_off(&update_settings(mac)?);
            Ok((found, "defaults read of com.apple.SoftwareUpdate and com.apple.commerce".into()))
        }
        Invariant::ClockSynchronised => {
            let found = network_time(mac)?.clock_synchronised();
            Ok((found, tools::network_time().to_string()))
        }
        Invariant::FirewallOpen => firewall_open(mac),
    }
}

fn link(host: &Host) -> Answer<&str> {
    if host.link.is_empty() {
        return Err(Unknown::NotConfigured("host.link".into()));
    }
    Ok(&host.link)
}

/// Whether an error says that there is no such interface: Darwin's is ENXIO.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV))
}

fn failed(what: &str, error: &io::Error) -> Unknown {
    Unknown::Failed(format!("{what} can't be read: {error}"))
}

fn unread(link: &str, error: &io::Error) -> Unknown {
    if is_absent(error) {
        return Unknown::Failed(format!("there is no interface {link}"));
    }
    failed(link, error)
}

fn link_mtu(link: &str, mac: &impl Mac) -> Answer<Seen> {
    let mtu_bytes = mac.mtu_bytes(link).map_err(|error| unread(link, &error))?;
    Ok((Found::Count(mtu_bytes.into()), format!("ioctl SIOCGIFMTU {link}")))
}

fn link_address(link: &str, mac: &impl Mac) -> Answer<Seen> {
    // An interface that is not there has no address either, and must not look like one without.
    mac.mtu_bytes(link).map_err(|error| unread(link, &error))?;
    let addresses = mac.ipv4_addresses(link).map_err(|error| unread(link, &error))?;
    let names = addresses.iter().map(ToString::to_string).collect();
    Ok((Found::Names(names), format!("getifaddrs {link}")))
}

fn link_unbridged(link: &str, mac: &impl Mac) -> Answer<Seen> {
    mac.mtu_bytes(link).map_err(|error| unread(link, &error))?;
    let bridge = mac.bridge_of(link).map_err(|error| unread(link, &error))?;
    let source = match &bridge {
        Some(bridge) => format!("ioctl BRDGGIFS {bridge}"),
        None => "ioctl BRDGGIFS".into(),
    };
    Ok((Found::Flag(bridge.is_none()), source))
}

/// The port's RDMA device is the one that [`ports`] finds for it, without the report of Thunderbolt
/// buses: that takes seconds, and who is at the other end is another question. The state is asked of
/// that device alone, and only if it is listed.
fn rdma_active(link: &str, mac: &impl Mac) -> Answer<Seen> {
    let ambiguous = |error: ports::Ambiguous| Unknown::Failed(error.to_string());
    let hardware = ports::hardware(mac)?;
    match ports::port_of(&hardware, link).map_err(ambiguous)? {
        Some(port) if ports::is_thunderbolt(port) => {}
        Some(port) => {
            let name = &port.name;
            return Err(Unknown::Failed(format!(
                "{link} is the port `{name}`, not a Thunderbolt one"
            )));
        }
        None => return Err(Unknown::Failed(format!("no hardware port has the interface {link}"))),
    }
    let Some(device) = ports::device_of(&ports::devices(mac)?, link).map_err(ambiguous)? else {
        return Ok((Found::Flag(false), tools::rdma_devices().to_string()));
    };
    let tool = tools::rdma_device(&device);
    let infos = rdma::parse_devinfo(&whole(mac, &tool)?).map_err(unparsed)?;
    Ok((rdma::rdma_active(&infos, link), tool.to_string()))
}

/// It has to be set before the first use of the GPU in a process, which keeps the limit it finds; so
/// the engine is not started before this holds. No such name is what a virtual machine has.
fn wired_limit(mac: &impl Mac) -> Answer<Seen> {
    let what = format!("sysctl {WIRED_LIMIT}");
    let mib = mac.sysctl_i32(WIRED_LIMIT).map_err(|error| failed(&what, &error))?;
    let mib = u64::try_from(mib).map_err(|_| Unknown::Failed(format!("{what} is {mib}")))?;
    Ok((Found::Count(mib), what))
}

fn os_version(mac: &impl Mac) -> Answer<Seen> {
    const NAME: &str = "kern.osproductversion";
    let what = format!("sysctl {NAME}");
    let text = mac.sysctl_text(NAME).map_err(|error| failed(&what, &error))?;
    let version: Version = text.parse().map_err(unparsed)?;
    Ok((version.os_version(), what))
}

/// The power settings in use.
pub(super) fn power(runner: &impl Runner) -> Answer<PowerSettings> {
    pmset::parse(&whole(runner, &tools::power())?).map_err(unparsed)
}

fn of_power(
    runner: &impl Runner,
    meaning: fn(&PowerSettings) -> Result<Found, Unparsed>,
) -> Answer<Seen> {
    let found = meaning(&power(runner)?).map_err(unparsed)?;
    Ok((found, tools::power().to_string()))
}

/// What Spotlight does with each volume.
pub(super) fn volumes(runner: &impl Runner) -> Answer<Vec<mdutil::Volume>> {
    mdutil::parse(&text(runner, &tools::spotlight())?).map_err(unparsed)
}

/// One preference.
pub(super) fn setting(runner: &impl Runner, preference: &defaults::Preference) -> Answer<Setting> {
    defaults::parse(&text(runner, &tools::preference(preference))?).map_err(unparsed)
}

fn update_settings(runner: &impl Runner) -> Answer<[Setting; UPDATE_PREFERENCES.len()]> {
    let mut settings = [Setting::Unset; UPDATE_PREFERENCES.len()];
    for (slot, preference) in settings.iter_mut().zip(&UPDATE_PREFERENCES) {
        *slot = setting(runner, preference)?;
    }
    Ok(settings)
}

/// Whether the clock follows a time server.
pub(super) fn network_time(runner: &impl Runner) -> Answer<time_sync::NetworkTime> {
    time_sync::parse(&text(runner, &tools::network_time())?).map_err(unparsed)
}

/// With rules per application only this executable's own rule tells; without one it is not known.
fn firewall_open(mac: &impl Mac) -> Answer<Seen> {
    let tool = tools::firewall();
    let state = firewall::parse(&text(mac, &tool)?).map_err(unparsed)?;
    if state != Firewall::PerApplication {
        return Ok((state.firewall_open().map_err(unparsed)?, tool.to_string()));
    }
    let program = mac.executable().map_err(|error| failed("this executable's path", &error))?;
    let tool: Tool = tools::firewall_rules();
    let rules = firewall_rules::parse(&whole(mac, &tool)?).map_err(unparsed)?;
    let found = firewall_rules::firewall_open(&rules, &program).map_err(unparsed)?;
    Ok((found, tool.to_string()))
}
