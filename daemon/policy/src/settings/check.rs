//! What is wrong with a section: checks of values that hold without looking at the machine.

use std::{fmt::Display, path::Path};

use super::{Canary, Host, Leak, Pair, Reboot};
use crate::invariant::version::Version;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Most memory or disk space that is asked for, in MiB (16 TiB): more is a slip of units.
const SIZE_MIB_MAX: u64 = 16 << 20;

/// Least memory that the GPU may be left with, in MiB.
const WIRED_LIMIT_MIB_MIN: u64 = 1_024;

/// Longest name of an interface: `IFNAMSIZ` is 16 with its zero on macOS and Linux.
const LINK_BYTES_MAX: usize = 15;

/// Most folders of crash reports: they are all watched.
const REPORT_DIRS_MAX: usize = 16;

/// Most words of the command that reboots; a longer one belongs into a script.
const COMMAND_WORDS_MAX: usize = 64;

/// Most automatic reboots a day: one an hour, and fewer than are remembered.
const REBOOTS_PER_DAY_MAX: u64 = 24;

/// One number of a section, and where it must be.
type Row = (&'static str, u64, u64, u64);

impl Host {
    /// Adds everything wrong with `[host]`, one sentence each.
    pub fn problems(&self, problems: &mut Vec<String>) {
        let rows: [Row; 9] = [
            // 1280 is the least that IPv6 works with, 65535 the most that a kernel takes.
            ("link_mtu_bytes", self.link_mtu_bytes.into(), 1_280, 65_535),
            ("wired_limit_mib", self.wired_limit_mib, 0, SIZE_MIB_MAX),
            ("disk_free_min_mib", self.disk_free_min_mib, 0, SIZE_MIB_MAX),
            // Ranks and gateway keep a few hundred open; the most is Linux's own default limit.
            ("open_files_min", self.open_files_min, 256, 1_048_576),
            ("poll_ms", self.poll_ms, 100, HOUR_MS),
            ("slow_poll_ms", self.slow_poll_ms, 100, HOUR_MS),
            ("probe_timeout_ms", self.probe_timeout_ms, 100, MINUTE_MS),
            // The times of so many drifts of each invariant are kept in the state.
            ("flap_max", self.flap_max.into(), 1, 100),
            ("flap_window_ms", self.flap_window_ms, 1_000, DAY_MS),
        ];
        check_ranges("host", &rows, problems);
        if (1..WIRED_LIMIT_MIB_MIN).contains(&self.wired_limit_mib) {
            problems.push(format!(
                "host.wired_limit_mib is {}; it must be 0 for the system's default, or at least \
                 {WIRED_LIMIT_MIB_MIN}: below that the GPU draws no screen and runs no model",
                self.wired_limit_mib
            ));
        }
        if !is_link_name(&self.link) {
            problems.push(format!(
                "host.link is {:?}; it must be the name of an interface, such as en5, of at most \
                 {LINK_BYTES_MAX} letters, digits, dots, dashes and underscores, or empty",
                self.link
            ));
        }
        if Version::parse(&self.os_version_min).is_none() {
            problems.push(format!(
                "host.os_version_min is {:?}; it must be numbers with dots between, such as 26.2",
                self.os_version_min
            ));
        }
        if self.report_dirs.len() > REPORT_DIRS_MAX {
            problems.push(format!(
                "host.report_dirs has {} folders; it must have at most {REPORT_DIRS_MAX}",
                self.report_dirs.len()
            ));
        }
        for folder in &self.report_dirs {
            check_absolute("host.report_dirs", folder, problems);
        }
    }
}

impl Leak {
    /// Adds everything wrong with `[leak]`, one sentence each.
    pub fn problems(&self, problems: &mut Vec<String>) {
        let rows: [Row; 9] = [
            ("threshold_mib", self.threshold_mib, 1, SIZE_MIB_MAX),
            // A leak of half of all memory leaves no room for a model: it must have shown by then.
            ("threshold_percent", self.threshold_percent, 0, 50),
            ("owner_min_mib", self.owner_min_mib, 1, SIZE_MIB_MAX),
            ("settle_ms", self.settle_ms, 0, HOUR_MS),
            // One sample can't be flat; the samples are kept in memory.
            ("samples", self.samples.into(), 2, 60),
            ("sample_ms", self.sample_ms, 100, 10 * MINUTE_MS),
            ("spread_mib", self.spread_mib, 0, SIZE_MIB_MAX),
            ("confirm_after_ms", self.confirm_after_ms, 0, DAY_MS),
            ("reserve_mib", self.reserve_mib, 0, SIZE_MIB_MAX),
        ];
        check_ranges("leak", &rows, problems);
    }
}

impl Canary {
    /// Adds everything wrong with `[canary]`, one sentence each.
    pub fn problems(&self, problems: &mut Vec<String>) {
        let rows: [Row; 4] = [
            ("period_ms", self.period_ms, 100, DAY_MS),
            // Less is the time of a token on a large model: all would fail.
            ("timeout_ms", self.timeout_ms, 1_000, HOUR_MS),
            // It is sent again and again: it must stay small beside what people ask for.
            ("max_tokens", self.max_tokens.into(), 1, 256),
            ("failures_max", self.failures_max.into(), 1, 100),
        ];
        check_ranges("canary", &rows, problems);
    }
}

impl Pair {
    /// Adds everything wrong with `[pair]`, one sentence each.
    pub fn problems(&self, problems: &mut Vec<String>) {
        let rows: [Row; 3] = [
            ("pairing_port", self.pairing_port.into(), 1, 65_535),
            ("report_ms", self.report_ms, 50, 10_000),
            // A report can be late by a turn and a slow disk.
            ("silence_timeout_ms", self.silence_timeout_ms, 500, MINUTE_MS),
        ];
        check_ranges("pair", &rows, problems);
        if self.silence_timeout_ms < self.report_ms.saturating_mul(3) {
            problems.push(format!(
                "pair.silence_timeout_ms is {}; it must be at least three times pair.report_ms ({}), \
                 or one late report counts as a cut",
                self.silence_timeout_ms, self.report_ms
            ));
        }
    }
}

impl Reboot {
    /// Adds everything wrong with `[reboot]`, one sentence each.
    pub fn problems(&self, problems: &mut Vec<String>) {
        let rows: [Row; 6] = [
            ("per_day_max", self.per_day_max.into(), 0, REBOOTS_PER_DAY_MAX),
            ("interval_min_ms", self.interval_min_ms, 0, DAY_MS),
            ("uptime_min_ms", self.uptime_min_ms, 0, DAY_MS),
            ("latch_ms", self.latch_ms, 0, DAY_MS),
            ("alone_after_ms", self.alone_after_ms, 1_000, DAY_MS),
            ("return_timeout_ms", self.return_timeout_ms, 10_000, DAY_MS),
        ];
        check_ranges("reboot", &rows, problems);
        if let Some(program) = self.command.first() {
            // The supervisor is root, and its PATH is not the one of whoever wrote the config.
            check_absolute("reboot.command", Path::new(program), problems);
        }
        if self.command.len() > COMMAND_WORDS_MAX {
            problems.push(format!(
                "reboot.command has {} words; it must have at most {COMMAND_WORDS_MAX}",
                self.command.len()
            ));
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            problems.push("reboot.command has a word with a zero byte in it; remove it".into());
        }
    }
}

fn check_ranges(section: &str, rows: &[Row], problems: &mut Vec<String>) {
    for (key, value, low, high) in rows {
        if !(low..=high).contains(&value) {
            problems.push(format!("{section}.{key} is {value}; it must be from {low} to {high}"));
        }
    }
}

fn check_absolute(key: impl Display, path: &Path, problems: &mut Vec<String>) {
    if !path.is_absolute() {
        problems.push(format!("{key} has {path:?}; it must be an absolute path, beginning with /"));
    }
}

/// It goes into calls and commands as it is, so it may not look like an option or a path.
fn is_link_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_well = name.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    name.len() <= LINK_BYTES_MAX && begins_well && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests;
