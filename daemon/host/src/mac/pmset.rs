//! Power settings: `/usr/bin/pmset -g`.
//!
//! Source: pmset(1), "GETTING", and `pmset.m` of Apple's PowerManagement: a heading, then one
//! setting a line. A value may be followed by a remark in parentheses, and a key may have spaces
//! (`Sleep On Power Button 1`). Which keys are printed differs per model.

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "pmset -g";

/// The settings in use that matter here; `None` is a key that this Mac does not print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerSettings {
    /// `sleep`: idle minutes until the system sleeps; 0 is never.
    pub sleep_minutes: Option<u32>,
    /// `SleepDisabled`: 1 when sleep is switched off altogether (`pmset disablesleep 1`).
    pub sleep_disabled: Option<u32>,
    /// `disksleep`: idle minutes until disks spin down; 0 is never.
    pub disk_sleep_minutes: Option<u32>,
    /// `powernap`: 1 when the system wakes for background work.
    pub power_nap: Option<u32>,
    /// `lowpowermode`: 1 when on; printed by Macs without a high-power mode.
    pub low_power_mode: Option<u32>,
    /// `powermode`: 0 normal, 1 low, 2 high; printed by Macs with a high-power mode.
    pub power_mode: Option<u32>,
    /// `autorestart`: 1 when the Mac starts again after a power loss.
    pub auto_restart: Option<u32>,
}

/// Reads the whole answer.
///
/// # Errors
/// No `Currently in use:` heading, a heading of another report (such as that of `pmset -g custom`),
/// or one of the keys above with a value that is no number or that changes within the answer.
pub fn parse(text: &str) -> Result<PowerSettings, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let mut settings = PowerSettings::default();
    let mut in_use = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with(char::is_whitespace) {
            match line.trim_end() {
                "System-wide power settings:" => in_use = false,
                "Currently in use:" => in_use = true,
                other => return Err(Unparsed::form(TOOL, "a known heading", other)),
            }
            continue;
        }
        let Some((key, value)) = key_and_value(line.trim()) else { continue };
        let slot = match key {
            "SleepDisabled" => &mut settings.sleep_disabled,
            _ if !in_use => continue,
            "sleep" => &mut settings.sleep_minutes,
            "disksleep" => &mut settings.disk_sleep_minutes,
            "powernap" => &mut settings.power_nap,
            "lowpowermode" => &mut settings.low_power_mode,
            "powermode" => &mut settings.power_mode,
            "autorestart" => &mut settings.auto_restart,
            _ => continue,
        };
        let number = value.parse().map_err(|_| Unparsed::form(TOOL, "a number", line))?;
        if slot.replace(number).is_some_and(|before| before != number) {
            return Err(Unparsed::form(TOOL, "one value a key", line));
        }
    }
    if !text.lines().any(|line| line.trim_end() == "Currently in use:") {
        return Err(Unparsed::form(TOOL, "`Currently in use:`", text));
    }
    Ok(settings)
}

/// The last word is the value and what stands before it the key, after a remark in parentheses is
/// taken off.
fn key_and_value(line: &str) -> Option<(&str, &str)> {
    let body = match line.split_once(" (") {
        Some((body, remark)) if remark.ends_with(')') => body,
        _ => line,
    };
    let (key, value) = body.trim_end().rsplit_once(char::is_whitespace)?;
    Some((key.trim_end(), value))
}

impl PowerSettings {
    /// For `SleepOff`: idle sleep is never, or sleep is switched off altogether. A process that
    /// holds sleep off at the moment does not count.
    ///
    /// # Errors
    /// The answer has no `sleep`.
    pub fn sleep_off(&self) -> Result<Found, Unparsed> {
        let minutes = known(self.sleep_minutes, "`sleep`")?;
        Ok(Found::Flag(minutes == 0 || self.sleep_disabled == Some(1)))
    }

    /// For `DiskSleepOff`.
    ///
    /// # Errors
    /// The answer has no `disksleep`.
    pub fn disk_sleep_off(&self) -> Result<Found, Unparsed> {
        Ok(Found::Flag(known(self.disk_sleep_minutes, "`disksleep`")? == 0))
    }

    /// For `PowerNapOff`.
    ///
    /// # Errors
    /// The answer has no `powernap`.
    pub fn power_nap_off(&self) -> Result<Found, Unparsed> {
        Ok(Found::Flag(known(self.power_nap, "`powernap`")? == 0))
    }

    /// For `LowPowerOff`: neither key says low.
    ///
    /// # Errors
    /// The answer has neither `powermode` nor `lowpowermode`.
    pub fn low_power_off(&self) -> Result<Found, Unparsed> {
        let either = self.power_mode.or(self.low_power_mode);
        known(either, "`powermode` or `lowpowermode`")?;
        let normal_or_high = matches!(self.power_mode, None | Some(0 | 2));
        Ok(Found::Flag(normal_or_high && self.low_power_mode.unwrap_or(0) == 0))
    }

    /// For `RestartAfterPowerLoss`.
    ///
    /// # Errors
    /// The answer has no `autorestart`.
    pub fn restart_after_power_loss(&self) -> Result<Found, Unparsed> {
        Ok(Found::Flag(known(self.auto_restart, "`autorestart`")? == 1))
    }
}

fn known(value: Option<u32>, what: &'static str) -> Result<u32, Unparsed> {
    value.ok_or(Unparsed::Absent { tool: TOOL, what })
}
