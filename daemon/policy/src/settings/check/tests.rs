//! A value a row, just outside of what is taken and just inside.

use super::*;

/// The key, one step below and above what is taken, and how to set it.
type Row<T> = (&'static str, u64, u64, fn(&mut T, u64));

fn check<T: Default>(section: &str, problems: fn(&T, &mut Vec<String>), rows: &[Row<T>]) {
    let of = |set: fn(&mut T, u64), value: u64| {
        let (mut settings, mut found) = (T::default(), Vec::new());
        set(&mut settings, value);
        problems(&settings, &mut found);
        found
    };
    assert_eq!(of(|_, _| {}, 0), [""; 0], "{section}: the defaults are fine");
    for (key, low, high, set) in rows {
        assert_eq!(of(*set, *low), [""; 0], "{section}.{key}");
        assert_eq!(of(*set, *high), [""; 0], "{section}.{key}");
        let outside = [low.checked_sub(1), Some(high + 1)];
        for value in outside.into_iter().flatten() {
            let expected = format!("{section}.{key} is {value}; it must be from {low} to {high}");
            assert_eq!(of(*set, value), [expected]);
        }
    }
}

#[test]
fn numbers_of_the_host_have_ranges() {
    check(
        "host",
        Host::problems,
        &[
            ("link_mtu_bytes", 1_280, 65_535, |s, v| s.link_mtu_bytes = v as u32),
            ("wired_limit_mib", 0, 16_777_216, |s, v| s.wired_limit_mib = v),
            ("disk_free_min_mib", 0, 16_777_216, |s, v| s.disk_free_min_mib = v),
            ("open_files_min", 256, 1_048_576, |s, v| s.open_files_min = v),
            ("poll_ms", 100, 3_600_000, |s, v| s.poll_ms = v),
            ("slow_poll_ms", 100, 3_600_000, |s, v| s.slow_poll_ms = v),
            ("probe_timeout_ms", 100, 60_000, |s, v| s.probe_timeout_ms = v),
            ("flap_max", 1, 100, |s, v| s.flap_max = v as u32),
            ("flap_window_ms", 1_000, 86_400_000, |s, v| s.flap_window_ms = v),
        ],
    );
}

#[test]
fn numbers_of_leak_canary_and_reboot_have_ranges() {
    check(
        "leak",
        Leak::problems,
        &[
            ("threshold_mib", 1, 16_777_216, |s, v| s.threshold_mib = v),
            ("threshold_percent", 0, 50, |s, v| s.threshold_percent = v),
            ("owner_min_mib", 1, 16_777_216, |s, v| s.owner_min_mib = v),
            ("settle_ms", 0, 3_600_000, |s, v| s.settle_ms = v),
            ("samples", 2, 60, |s, v| s.samples = v as u32),
            ("sample_ms", 100, 600_000, |s, v| s.sample_ms = v),
            ("spread_mib", 0, 16_777_216, |s, v| s.spread_mib = v),
            ("confirm_after_ms", 0, 86_400_000, |s, v| s.confirm_after_ms = v),
            ("reserve_mib", 0, 16_777_216, |s, v| s.reserve_mib = v),
        ],
    );
    check(
        "canary",
        Canary::problems,
        &[
            ("period_ms", 100, 86_400_000, |s, v| s.period_ms = v),
            ("timeout_ms", 1_000, 3_600_000, |s, v| s.timeout_ms = v),
            ("max_tokens", 1, 256, |s, v| s.max_tokens = v as u32),
            ("failures_max", 1, 100, |s, v| s.failures_max = v as u32),
        ],
    );
    check(
        "reboot",
        Reboot::problems,
        &[
            ("per_day_max", 0, 24, |s, v| s.per_day_max = v as u32),
            ("interval_min_ms", 0, 86_400_000, |s, v| s.interval_min_ms = v),
            ("uptime_min_ms", 0, 86_400_000, |s, v| s.uptime_min_ms = v),
            ("latch_ms", 0, 86_400_000, |s, v| s.latch_ms = v),
        ],
    );
}

fn host_problems(host: &Host) -> Vec<String> {
    let mut problems = Vec::new();
    host.problems(&mut problems);
    problems
}

#[test]
fn the_gpu_is_left_with_the_systems_default_or_with_enough() {
    for (mib, is_taken) in [(0, true), (1, false), (1_023, false), (1_024, true)] {
        let host = Host { wired_limit_mib: mib, ..Host::default() };
        assert_eq!(host_problems(&host).is_empty(), is_taken, "{mib}");
    }
}

#[test]
fn the_link_is_the_name_of_an_interface() {
    for link in ["", "en5", "bridge0", "enp3s0f1.4", "tb-a_b", "a234567890bcdef"] {
        let host = Host { link: link.into(), ..Host::default() };
        assert_eq!(host_problems(&host), [""; 0], "{link:?}");
    }
    for link in ["a234567890bcdefg", "-a", ".", "..", "_x", "en 5", "en5;", "a/b", "é", "en5\0"] {
        let host = Host { link: link.into(), ..Host::default() };
        let problems = host_problems(&host);
        assert_eq!(problems.len(), 1, "{link:?}");
        let begins = format!("host.link is {link:?}; it must be the name of an interface");
        assert!(problems[0].starts_with(&begins), "{}", problems[0]);
    }
}

#[test]
fn the_least_version_and_the_report_folders_must_make_sense() {
    let rows: [(&str, Vec<&str>, &[&str]); 6] = [
        ("26", vec!["/var/log", "/Library/Logs"], &[]),
        ("26.2.1", vec![], &[]),
        (
            "Tahoe",
            vec![],
            &[
                "host.os_version_min is \"Tahoe\"; it must be numbers with dots between, such as 26.2",
            ],
        ),
        (
            "",
            vec![],
            &["host.os_version_min is \"\"; it must be numbers with dots between, such as 26.2"],
        ),
        (
            "26.2",
            vec!["/a", "logs"],
            &["host.report_dirs has \"logs\"; it must be an absolute path, beginning with /"],
        ),
        ("26.2", vec!["/a"; 17], &["host.report_dirs has 17 folders; it must have at most 16"]),
    ];
    for (version, folders, expected) in rows {
        let report_dirs = folders.into_iter().map(Into::into).collect();
        let host = Host { os_version_min: version.into(), report_dirs, ..Host::default() };
        assert_eq!(host_problems(&host), expected);
    }
}

#[test]
fn the_command_that_reboots_is_found_without_a_path() {
    let rows: [(&[&str], &[&str]); 6] = [
        (&[], &[]),
        (&["/sbin/shutdown", "-r", "now"], &[]),
        (
            &["shutdown", "-r", "now"],
            &["reboot.command has \"shutdown\"; it must be an absolute path, beginning with /"],
        ),
        (&[""], &["reboot.command has \"\"; it must be an absolute path, beginning with /"]),
        (
            &["/sbin/reboot", "a\0b"],
            &["reboot.command has a word with a zero byte in it; remove it"],
        ),
        (&["/bin/true"; 65], &["reboot.command has 65 words; it must have at most 64"]),
    ];
    for (command, expected) in rows {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let mut problems = Vec::new();
        Reboot { command, ..Reboot::default() }.problems(&mut problems);
        assert_eq!(problems, expected);
    }
}
