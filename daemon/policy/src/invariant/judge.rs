//! Judging one reading: does it hold, is it broken, or is it not known?

use super::{Found, Invariant, Mode, Sighting, Unknown, version::Version};
use crate::{Moment, Observation, Repair, Setup};

/// How many poll periods a reading stays good: one poll may be late and one may fail.
const PERIODS_MAX: u64 = 3;

/// Most names that are put into words; a text is kept in the state and in the ledger.
const NAMES_MAX: usize = 8;

/// Most characters of one name or text that are put into words.
const TEXT_CHARS_MAX: usize = 64;

/// One mebibyte in bytes.
const MIB_BYTES: u64 = 1 << 20;

/// What a reading means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds {
        /// What was found.
        found: Found,
    },
    /// It does not.
    Broken {
        /// What was found.
        found: Found,
        /// What is wanted: [`wanted`].
        wanted: String,
        /// What mends it; `None` if nothing of ours does or the config only observes it.
        repair: Option<Repair>,
    },
    /// It is not known. Unknown is not healthy, but for what [`Verdict::is_accepted`] says.
    Unknown(Unknown),
}

impl Verdict {
    /// Whether serving can do with it: it holds, or there is nothing to hold because this platform
    /// has no such thing or the config does not ask for it.
    pub const fn is_accepted(&self) -> bool {
        match self {
            Self::Holds { .. } => true,
            Self::Broken { .. } => false,
            Self::Unknown(unknown) => {
                matches!(unknown, Unknown::NotOnThisPlatform | Unknown::NotConfigured(_))
            }
        }
    }

    /// What is wrong, in words; `None` if it is accepted.
    pub fn trouble(&self, invariant: Invariant) -> Option<String> {
        let name = invariant.row().name;
        match self {
            Self::Holds { .. } => None,
            Self::Unknown(_) if self.is_accepted() => None,
            Self::Broken { found, wanted, repair } => {
                let found = in_words(invariant, found);
                let mended = if repair.is_some() { " (mended by the supervisor)" } else { "" };
                Some(format!("{name} is {found}, must be {wanted}{mended}"))
            }
            Self::Unknown(unknown) => Some(format!("{name} is not known: {unknown}")),
        }
    }
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotOnThisPlatform => write!(f, "this platform has no such thing"),
            Self::NotConfigured(key) => write!(f, "the config does not ask for it, see {key}"),
            Self::Unread => write!(f, "it was not read yet, or too long ago"),
            Self::Failed(reason) => write!(f, "reading it failed: {reason}"),
            Self::Hung(probe) => write!(
                f,
                "its probe did not end ({probe}), and runs again only in a new supervisor"
            ),
        }
    }
}

/// Judges one reading; `None` is one that was not made yet.
pub fn judge(
    setup: &Setup,
    invariant: Invariant,
    sighting: Option<&Sighting>,
    now: Moment,
) -> Verdict {
    let not_asked = || not_asked_by(setup, invariant).map(|key| Unknown::NotConfigured(key.into()));
    let found = match fresh(setup, invariant, sighting, now) {
        Ok(found) => found.clone(),
        Err(Unknown::NotOnThisPlatform) => return Verdict::Unknown(Unknown::NotOnThisPlatform),
        Err(unknown) => return Verdict::Unknown(not_asked().unwrap_or(unknown)),
    };
    match (is_met(setup, invariant, &found), not_asked()) {
        (Ok(true), _) => Verdict::Holds { found },
        (_, Some(not_asked)) => Verdict::Unknown(not_asked),
        (Err(mismatch), None) => Verdict::Unknown(Unknown::Failed(mismatch)),
        (Ok(false), None) => {
            let is_enforced = setup.invariants.mode(invariant) == Mode::Enforce;
            let repair = is_enforced.then(|| repair(setup, invariant, &found)).flatten();
            Verdict::Broken { found, wanted: wanted(setup, invariant), repair }
        }
    }
}

/// What was found, if it was read so lately that it still means something.
pub fn fresh<'a>(
    setup: &Setup,
    invariant: Invariant,
    sighting: Option<&'a Sighting>,
    now: Moment,
) -> Result<&'a Found, Unknown> {
    let host = &setup.host;
    let period_ms = if invariant.row().is_slow { host.slow_poll_ms } else { host.poll_ms };
    let age_ms_max = period_ms.saturating_mul(PERIODS_MAX).saturating_add(host.probe_timeout_ms);
    sighting.ok_or(Unknown::Unread)?.fresh(now.boot_ms, age_ms_max)
}

/// Whether nothing says that this machine could not come back from a reboot by itself; the reason
/// if something does. Unknown is not healthy, even while the invariant is only observed.
pub fn unattended_boot(setup: &Setup, seen: &Observation, now: Moment) -> Result<(), String> {
    let invariant = Invariant::UnattendedBoot;
    let verdict = judge(setup, invariant, seen.invariants.get(&invariant), now);
    verdict.trouble(invariant).map_or(Ok(()), Err)
}

/// What is wanted, in words.
pub fn wanted(setup: &Setup, invariant: Invariant) -> String {
    let host = &setup.host;
    match invariant {
        Invariant::LinkMtu => host.link_mtu_bytes.to_string(),
        Invariant::LinkAddress => "exactly one address".into(),
        Invariant::WiredLimit if host.wired_limit_mib == 0 => "the system's default".into(),
        Invariant::WiredLimit => format!("{} MiB", host.wired_limit_mib),
        Invariant::SpotlightOff => "none".into(),
        Invariant::DiskSpace => format!("at least {} MiB", host.disk_free_min_mib),
        Invariant::OpenFiles => format!("at least {}", host.open_files_min),
        Invariant::OsVersion => format!("at least {}", host.os_version_min),
        _ => "yes".into(),
    }
}

/// What was found, in words.
pub fn in_words(invariant: Invariant, found: &Found) -> String {
    let cut = |text: &String| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
    match (invariant, found) {
        (_, Found::Flag(true)) => "yes".into(),
        (_, Found::Flag(false)) => "no".into(),
        (Invariant::WiredLimit, Found::Count(mib)) => format!("{mib} MiB"),
        (Invariant::DiskSpace, Found::Count(bytes)) => format!("{} MiB", bytes / MIB_BYTES),
        (_, Found::Count(count)) => count.to_string(),
        (_, Found::Text(text)) => cut(text),
        (_, Found::Names(names)) if names.is_empty() => "none".into(),
        (_, Found::Names(names)) => {
            let shown: Vec<String> = names.iter().take(NAMES_MAX).map(cut).collect();
            match names.len().saturating_sub(NAMES_MAX) {
                0 => shown.join(", "),
                more => format!("{} and {more} more", shown.join(", ")),
            }
        }
    }
}

/// The key by which the config says that there is nothing to look after, if it does.
const fn not_asked_by(setup: &Setup, invariant: Invariant) -> Option<&'static str> {
    let is_linkless = setup.host.link.is_empty();
    match invariant {
        // Ranks on a TCP ring need no RDMA, and a Mac without Thunderbolt 5 has none to offer.
        Invariant::RdmaEnabled | Invariant::RdmaActive if !setup.uses_fabric => {
            Some("engine.backend")
        }
        Invariant::LinkMtu
        | Invariant::LinkAddress
        | Invariant::LinkUnbridged
        | Invariant::RdmaActive
            if is_linkless =>
        {
            Some("host.link")
        }
        Invariant::WiredLimit if setup.host.wired_limit_mib == 0 => Some("host.wired_limit_mib"),
        _ => None,
    }
}

/// Whether what was found is what is wanted; what does not fit if the two can't be compared.
fn is_met(setup: &Setup, invariant: Invariant, found: &Found) -> Result<bool, String> {
    let host = &setup.host;
    match invariant {
        Invariant::LinkMtu => Ok(count(found)? == u64::from(host.link_mtu_bytes)),
        Invariant::LinkAddress => Ok(names(found)?.len() == 1),
        Invariant::WiredLimit => Ok([0, count(found)?].contains(&host.wired_limit_mib)),
        Invariant::SpotlightOff => Ok(names(found)?.is_empty()),
        Invariant::DiskSpace => {
            Ok(count(found)? >= host.disk_free_min_mib.saturating_mul(MIB_BYTES))
        }
        Invariant::OpenFiles => Ok(count(found)? >= host.open_files_min),
        Invariant::OsVersion => Ok(version(found)? >= version_min(&host.os_version_min)?),
        Invariant::LinkUnbridged
        | Invariant::RdmaEnabled
        | Invariant::RdmaActive
        | Invariant::GpuUsable
        | Invariant::UnattendedBoot
        | Invariant::RestartAfterPowerLoss
        | Invariant::SleepOff
        | Invariant::DiskSleepOff
        | Invariant::PowerNapOff
        | Invariant::LowPowerOff
        | Invariant::AutomaticUpdatesOff
        | Invariant::ClockSynchronised
        | Invariant::FirewallOpen => match found {
            Found::Flag(flag) => Ok(*flag),
            other => Err(mismatch(other, "a flag")),
        },
    }
}

fn count(found: &Found) -> Result<u64, String> {
    match found {
        Found::Count(count) => Ok(*count),
        other => Err(mismatch(other, "a number")),
    }
}

fn names(found: &Found) -> Result<&[String], String> {
    match found {
        Found::Names(names) => Ok(names),
        other => Err(mismatch(other, "names")),
    }
}

fn version(found: &Found) -> Result<Version, String> {
    match found {
        Found::Text(text) => Version::parse(text).ok_or_else(|| mismatch(found, "a version")),
        other => Err(mismatch(other, "a version")),
    }
}

/// The config is checked before it is taken, so this fails only for one that nobody checked.
fn version_min(text: &str) -> Result<Version, String> {
    Version::parse(text).ok_or_else(|| format!("host.os_version_min (\"{text}\") is no version"))
}

fn mismatch(found: &Found, expected: &str) -> String {
    let (kind, text) = match found {
        Found::Flag(flag) => ("the flag", flag.to_string()),
        Found::Count(count) => ("the number", count.to_string()),
        Found::Text(text) => {
            ("the text", format!("{:?}", text.chars().take(TEXT_CHARS_MAX).collect::<String>()))
        }
        Found::Names(names) => ("names", format!("({} of them)", names.len())),
    };
    format!("{kind} {text} was read where {expected} must be")
}

/// What mends it, if the supervisor can.
fn repair(setup: &Setup, invariant: Invariant, found: &Found) -> Option<Repair> {
    let host = &setup.host;
    let link = || host.link.clone();
    let power = |key: &str, value| Some(Repair::Power { key: key.into(), value });
    match (invariant, found) {
        (Invariant::LinkMtu, _) => {
            Some(Repair::LinkMtu { link: link(), mtu_bytes: host.link_mtu_bytes })
        }
        // Another address mends a lack of them, not a surplus: which one to take away is for people.
        (Invariant::LinkAddress, Found::Names(names)) if names.is_empty() => {
            Some(Repair::LinkAddress { link: link() })
        }
        (Invariant::LinkUnbridged, _) => Some(Repair::LinkUnbridged { link: link() }),
        (Invariant::WiredLimit, _) => Some(Repair::WiredLimit { mib: host.wired_limit_mib }),
        (Invariant::SpotlightOff, Found::Names(volumes)) => {
            Some(Repair::SpotlightOff { volumes: volumes.clone() })
        }
        (Invariant::SleepOff, _) => power("sleep", 0),
        (Invariant::DiskSleepOff, _) => power("disksleep", 0),
        (Invariant::PowerNapOff, _) => power("powernap", 0),
        (Invariant::LowPowerOff, _) => power("lowpowermode", 0),
        (Invariant::RestartAfterPowerLoss, _) => power("autorestart", 1),
        (Invariant::AutomaticUpdatesOff, _) => Some(Repair::AutomaticUpdatesOff),
        (Invariant::OpenFiles, _) => Some(Repair::OpenFiles { count: host.open_files_min }),
        (Invariant::ClockSynchronised, _) => Some(Repair::ClockSynchronised),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
