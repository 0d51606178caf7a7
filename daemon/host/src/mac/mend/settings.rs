//! Settings of the system as a whole.

use super::{
    super::{
        defaults::{Preference, Setting, UPDATE_PREFERENCES},
        mdutil::Indexing,
        pmset::PowerSettings,
        read::{self, WIRED_LIMIT},
        time_sync::NetworkTime,
    },
    Mac, MendError, NOTHING, Step,
    link::not_taken,
};
use crate::mac::tools;

/// The start-up disk's sealed volume. It can't hold a file of ours, such as a marker that keeps
/// Spotlight away; `mdutil` keeps its state elsewhere.
const SEALED_VOLUME: &str = "/";

/// Memory that is always left to the system beside what the GPU may wire, in MiB: where more was
/// taken from 512 GiB, the system could not go on.
const RESERVE_MIB: u64 = 16 * 1024;

/// On a Mac with less memory a smaller part is left, so that anything can be asked for there.
const RESERVE_PART: u64 = 8;

/// Sets what the GPU may wire. Needs root, and lasts until the next boot. A process that uses the GPU
/// keeps the limit that it found first, so this comes before the first call to Metal: the engine is
/// not started before the invariant holds.
pub(super) fn wired_limit(mib: u64, mac: &impl Mac) -> Result<(), MendError> {
    let failed = |error| MendError::system(WIRED_LIMIT, error);
    let memory_mib = mac.sysctl_u64("hw.memsize").map_err(failed)? >> 20;
    let most_mib = memory_mib - RESERVE_MIB.min(memory_mib / RESERVE_PART);
    let value = i32::try_from(mib).ok().filter(|_| mib <= most_mib);
    let value = value.ok_or(MendError::TooMuchWired { mib, most_mib })?;
    if mac.sysctl_i32(WIRED_LIMIT).map_err(failed)? == value {
        return Ok(());
    }
    mac.set_sysctl_i32(WIRED_LIMIT, value).map_err(failed)?;
    // The system may take less than it was asked for without a word.
    not_taken(WIRED_LIMIT, value, mac.sysctl_i32(WIRED_LIMIT).map_err(failed)?, NOTHING)
}

/// Turns indexing off, volume by volume. Needs root; each volume keeps it. One that refuses does not
/// keep the others from being set. The sealed volume comes last, and only if it is still indexed when
/// the others, of which one holds its index, are not.
pub(super) fn spotlight_off(volumes: &[String], mac: &impl Mac) -> Result<(), MendError> {
    let done = "the other volumes were set";
    let step = Step { what: "turning Spotlight off", done };
    let mut before = indexed(volumes, mac)?;
    before.retain(|volume| volume != SEALED_VOLUME);
    let mut troubles = Vec::new();
    for volume in &before {
        match step.try_set(mac, &tools::set_spotlight_off(volume)) {
            Ok(said) => troubles.push((volume, said)),
            Err(MendError::Step { reason, .. }) => troubles.push((volume, reason)),
            Err(other) => return Err(other),
        }
    }
    let mut still = indexed(volumes, mac)?;
    if still.iter().any(|volume| volume == SEALED_VOLUME) {
        step.try_set(mac, &tools::set_spotlight_off(SEALED_VOLUME))?;
        still = indexed(volumes, mac)?;
    }
    let Some(volume) = still.first() else { return Ok(()) };
    let said = troubles.into_iter().find(|(each, _)| *each == volume).map(|(_, said)| said);
    let reason = said.filter(|said| !said.is_empty()).unwrap_or_else(|| "no effect".into());
    Err(step
        .failed(&tools::set_spotlight_off(volume), format!("{volume} is still indexed: {reason}")))
}

/// Those of the volumes that are indexed now.
fn indexed(volumes: &[String], mac: &impl Mac) -> Result<Vec<String>, MendError> {
    let step = Step { what: "seeing what Spotlight indexes", done: "what was set stays set" };
    let found = step.read(&tools::spotlight(), read::volumes(mac))?;
    let is_on = |indexing| matches!(indexing, Indexing::Enabled | Indexing::ReadOnly);
    let paths = found.into_iter().filter(|volume| is_on(volume.indexing)).map(|volume| volume.path);
    Ok(paths.filter(|path| volumes.contains(path)).collect())
}

/// Sets one power key for every source of power. Needs root, and lasts. A key that this Mac does not
/// print is not set: nothing would tell whether it was.
pub(super) fn power(key: &str, value: u32, mac: &impl Mac) -> Result<(), MendError> {
    let what = format!("setting the power key {key}");
    let step = Step { what: &what, done: "no key but those that stand for it was touched" };
    let wrong = |mac: &_| {
        let settings = step.read(&tools::power(), read::power(mac))?;
        wrong_keys(key, value, &settings).ok_or_else(|| MendError::UnknownPowerKey(key.into()))
    };
    for (key, _) in wrong(mac)? {
        step.set(mac, &tools::set_power(key, value))?;
    }
    match wrong(mac)?.first() {
        Some((key, found)) => not_taken(&format!("the power key {key}"), value, *found, step.done),
        None => Ok(()),
    }
}

/// The keys behind a setting that have another value, with it; `None` if this Mac prints none of them.
/// A Mac that has a high-power mode has `powermode` in place of `lowpowermode`: 0 is normal, 1 low and
/// 2 high, which is as good as normal.
fn wrong_keys(key: &str, value: u32, settings: &PowerSettings) -> Option<Vec<(&'static str, u32)>> {
    let low = [("lowpowermode", settings.low_power_mode), ("powermode", settings.power_mode)];
    let keys: &[(&'static str, Option<u32>)] = match key {
        "sleep" => &[("sleep", settings.sleep_minutes)],
        "disksleep" => &[("disksleep", settings.disk_sleep_minutes)],
        "powernap" => &[("powernap", settings.power_nap)],
        "autorestart" => &[("autorestart", settings.auto_restart)],
        "lowpowermode" => &low,
        _ => &[],
    };
    let printed: Vec<_> = keys.iter().filter_map(|(key, found)| Some((*key, (*found)?))).collect();
    let is_high = |key, found| (key, found, value) == ("powermode", 2, 0);
    let is_wrong = |(key, found): &(&'static str, u32)| *found != value && !is_high(*key, *found);
    (!printed.is_empty()).then(|| printed.into_iter().filter(is_wrong).collect())
}

/// Turns off, one by one, what lets the system fetch and install updates or restart for them. Needs
/// root, and lasts; a management profile overrides it.
pub(super) fn automatic_updates_off(mac: &impl Mac) -> Result<(), MendError> {
    let mut done = NOTHING;
    for preference in &UPDATE_PREFERENCES {
        let what = format!("turning the update preference {} off", preference.key);
        let step = Step { what: &what, done };
        let is_off = |mac: &_| {
            let setting = step.read(&tools::preference(preference), read::setting(mac, preference));
            setting.map(|setting| setting == Setting::Off)
        };
        if is_off(mac)? {
            continue;
        }
        if governs_checks(preference) {
            // The preference tells whether it had an effect.
            step.try_set(mac, &tools::set_update_schedule_off())?;
        }
        let set = tools::set_preference_off(preference);
        step.set(mac, &set)?;
        if !is_off(mac)? {
            return Err(step.failed(&set, "it had no effect".into()));
        }
        done = "the preferences before it are off";
    }
    Ok(())
}

/// Whether it is the one that `softwareupdate --schedule` sets.
fn governs_checks(preference: &Preference) -> bool {
    preference.key == "AutomaticCheckEnabled"
}

/// Lets the clock follow a time server. Needs root, as reading it does, and lasts.
pub(super) fn clock_synchronised(mac: &impl Mac) -> Result<(), MendError> {
    let step = Step { what: "letting the clock follow a time server", done: NOTHING };
    if !mac.is_root() {
        return Err(MendError::NeedsRoot(step.what.into()));
    }
    let is_on = |mac: &_| {
        let found = step.read(&tools::network_time(), read::network_time(mac));
        found.map(|found| found == NetworkTime::On)
    };
    if is_on(mac)? {
        return Ok(());
    }
    let set = tools::set_network_time_on();
    let said = step.try_set(mac, &set)?;
    if is_on(mac)? { Ok(()) } else { Err(step.failed(&set, format!("it had no effect: {said}"))) }
}
