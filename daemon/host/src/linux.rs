//! Linux: real where Linux has the same thing as a Mac, so that tests run against a real kernel.
//!
//! No tool is started, and nothing of a link is read from `/sys`: that is mounted for one network
//! namespace and may show the links of another one than the thread is in.

mod adjtimex;
mod ifreq;
mod link_watch;
mod memory;
mod oom;
mod process;
mod procfs;
mod rtnetlink;
mod start_memory;

use std::{io, path::PathBuf};

use tandem_policy::{
    Repair, ThunderboltPort,
    invariant::{Found, Invariant, Unknown},
    settings::Host,
};

pub use link_watch::LinkWatch;
pub use memory::memory;
pub use oom::memory_kills;
pub(crate) use process::gain_no_rights;
pub use process::{command_line, exited, identity, is_running};
pub use start_memory::release_start_memory;

use crate::{MendError, disk, limits, link_address, mac::accelerator::Accelerator};

/// Reads one invariant: what was found, and where. Takes well under a millisecond.
///
/// `disks` are the folders whose file systems must have room. Units are the invariant's own.
///
/// # Errors
/// Why it is not known; a link that is not there is unknown too.
pub fn read(
    invariant: Invariant,
    host: &Host,
    disks: &[PathBuf],
) -> Result<(Found, String), Unknown> {
    match invariant {
        Invariant::LinkMtu => {
            let link = link(host)?;
            let mtu_bytes = ifreq::mtu_bytes(link).map_err(|error| unread(link, &error))?;
            Ok((Found::Count(mtu_bytes.into()), format!("ioctl SIOCGIFMTU {link}")))
        }
        Invariant::LinkAddress => {
            let link = link(host)?;
            rtnetlink::link(link).map_err(|error| unread(link, &error))?;
            link_address::addresses(link)
        }
        Invariant::LinkUnbridged => {
            let link = link(host)?;
            let seen = rtnetlink::link(link).map_err(|error| unread(link, &error))?;
            Ok((Found::Flag(!seen.is_bridged), format!("rtnetlink RTM_GETLINK {link}")))
        }
        Invariant::DiskSpace => disk::least_free(disks),
        Invariant::OpenFiles => limits::open_files(),
        Invariant::ClockSynchronised => adjtimex::is_synchronised(),
        Invariant::RdmaEnabled
        | Invariant::RdmaActive
        | Invariant::WiredLimit
        | Invariant::SpotlightOff
        | Invariant::SleepOff
        | Invariant::DiskSleepOff
        | Invariant::PowerNapOff
        | Invariant::LowPowerOff
        | Invariant::RestartAfterPowerLoss
        | Invariant::AutomaticUpdatesOff
        | Invariant::UnattendedBoot
        | Invariant::GpuUsable
        | Invariant::OsVersion
        | Invariant::FirewallOpen => Err(Unknown::NotOnThisPlatform),
    }
}

fn link(host: &Host) -> Result<&str, Unknown> {
    if host.link.is_empty() {
        return Err(Unknown::NotConfigured("host.link".into()));
    }
    Ok(&host.link)
}

fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}

fn unread(link: &str, error: &io::Error) -> Unknown {
    Unknown::Failed(if is_absent(error) {
        format!("there is no interface {link}")
    } else {
        format!("{link} can't be read: {error}")
    })
}

/// Every GPU with its counters: Linux's are not looked at.
///
/// # Errors
/// `Unsupported`.
pub fn accelerators() -> io::Result<Vec<Accelerator>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Every Thunderbolt port: Linux's are not looked at.
///
/// # Errors
/// That this platform has none.
pub const fn thunderbolt_ports() -> Result<Vec<ThunderboltPort>, Unknown> {
    Err(Unknown::NotOnThisPlatform)
}

/// Makes one setting. Making it again does no harm.
///
/// # Errors
/// What was to be set, why it could not be, and what to do.
pub fn mend(repair: &Repair) -> Result<(), MendError> {
    match repair {
        Repair::LinkMtu { link, mtu_bytes } => {
            ifreq::set_mtu(link, *mtu_bytes).map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL | libc::ERANGE) => {
                    MendError::Mtu { link: link.clone(), mtu_bytes: *mtu_bytes }
                }
                _ => unmended(link, "MTU", error),
            })
        }
        Repair::LinkAddress { link } => give_address(link),
        Repair::LinkUnbridged { link } => {
            let seen = rtnetlink::link(link).map_err(|e| unmended(link, "bridge", e))?;
            if !seen.is_bridged {
                return Ok(());
            }
            rtnetlink::leave(seen.index).map_err(|e| unmended(link, "bridge", e))
        }
        Repair::OpenFiles { count } => limits::raise_open_files(*count),
        Repair::WiredLimit { .. } => Err(absent(Invariant::WiredLimit)),
        Repair::SpotlightOff { .. } => Err(absent(Invariant::SpotlightOff)),
        Repair::Power { key, .. } => Err(MendError::NotOnThisPlatform(format!("power key {key}"))),
        Repair::AutomaticUpdatesOff => Err(absent(Invariant::AutomaticUpdatesOff)),
        Repair::ClockSynchronised => Err(absent(Invariant::ClockSynchronised)),
    }
}

/// Gives a link a link-local address, unless it has an IPv4 address: what somebody chose stays.
fn give_address(link: &str) -> Result<(), MendError> {
    let failed = |error| unmended(link, "address", error);
    let seen = rtnetlink::link(link).map_err(failed)?;
    let (found, _) = link_address::addresses(link)
        .map_err(|unknown| failed(io::Error::other(format!("{unknown:?}"))))?;
    if matches!(found, Found::Names(names) if !names.is_empty()) {
        return Ok(());
    }
    let address = link_address::link_local(&seen.hardware_address)
        .ok_or_else(|| MendError::NoHardwareAddress(link.into()))?;
    rtnetlink::add_address(seen.index, address).map_err(failed)
}

fn unmended(link: &str, what: &str, error: io::Error) -> MendError {
    if is_absent(&error) {
        return MendError::NoInterface(link.into());
    }
    MendError::system(format!("the {what} of {link}"), error)
}

fn absent(invariant: Invariant) -> MendError {
    MendError::NotOnThisPlatform(invariant.row().name.into())
}
