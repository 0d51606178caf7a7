//! Rows of readings and their verdicts.

use std::collections::BTreeMap;

use super::{
    Found::{Count, Flag, Names, Text},
    Invariant::*,
    *,
};
use crate::settings::Invariants;

const NOW: Moment = Moment { boot_ms: 1_000_000, wall_ms: 0 };

fn setup() -> Setup {
    let mut setup = Setup { uses_fabric: true, ..Setup::default() };
    setup.host.link = "en5".into();
    setup.host.wired_limit_mib = 505_000;
    setup.invariants = Invariants(Invariant::ALL.map(|i| (i, Mode::Enforce)).into());
    setup
}

fn seen(found: Found) -> Sighting {
    Sighting::Known { found, source: "test".into(), at_ms: NOW.boot_ms }
}

fn names(names: &[&str]) -> Found {
    Names(names.iter().map(|name| (*name).to_owned()).collect())
}

fn text(text: &str) -> Found {
    Text(text.into())
}

fn power(key: &str, value: u32) -> Option<Repair> {
    Some(Repair::Power { key: key.into(), value })
}

#[test]
fn what_is_wanted_holds() {
    let gib = 1 << 30;
    let mut rows = vec![
        (LinkMtu, Count(9_000)),
        (LinkAddress, names(&["169.254.0.1"])),
        (WiredLimit, Count(505_000)),
        (SpotlightOff, names(&[])),
        (DiskSpace, Count(2 * gib)),
        (DiskSpace, Count(u64::MAX)),
        (OpenFiles, Count(1_024)),
        (OsVersion, text("26.2")),
        (OsVersion, text("26.10")),
        (OsVersion, text("27")),
    ];
    rows.extend(FLAGS.map(|invariant| (invariant, Flag(true))));
    for (invariant, found) in rows {
        let verdict = judge(&setup(), invariant, Some(&seen(found.clone())), NOW);
        assert_eq!(verdict, Verdict::Holds { found }, "{invariant:?}");
    }
}

const FLAGS: [Invariant; 13] = [
    LinkUnbridged,
    RdmaEnabled,
    RdmaActive,
    GpuUsable,
    UnattendedBoot,
    RestartAfterPowerLoss,
    SleepOff,
    DiskSleepOff,
    PowerNapOff,
    LowPowerOff,
    AutomaticUpdatesOff,
    ClockSynchronised,
    FirewallOpen,
];

type Row = (Invariant, Found, &'static str, Option<Repair>);

/// What is broken, in words, and what mends it.
fn broken() -> Vec<Row> {
    let link = || "en5".to_owned();
    let mtu = Some(Repair::LinkMtu { link: link(), mtu_bytes: 9_000 });
    let address = Some(Repair::LinkAddress { link: link() });
    let unbridged = Some(Repair::LinkUnbridged { link: link() });
    let limit = Some(Repair::WiredLimit { mib: 505_000 });
    let spotlight = Some(Repair::SpotlightOff { volumes: vec!["/".into(), "/Volumes/m".into()] });
    let files = Some(Repair::OpenFiles { count: 1_024 });
    let false_ = "is no, must be yes";
    vec![
        (LinkMtu, Count(1_500), "is 1500, must be 9000", mtu.clone()),
        (LinkMtu, Count(9_001), "is 9001, must be 9000", mtu),
        (LinkAddress, names(&[]), "is none, must be exactly one address", address),
        (LinkAddress, names(&["a", "b"]), "is a, b, must be exactly one address", None),
        (LinkUnbridged, Flag(false), false_, unbridged),
        (RdmaEnabled, Flag(false), false_, None),
        (RdmaActive, Flag(false), false_, None),
        (WiredLimit, Count(0), "is 0 MiB, must be 505000 MiB", limit),
        (GpuUsable, Flag(false), false_, None),
        (DiskSpace, Count((2 << 30) - 1), "is 2047 MiB, must be at least 2048 MiB", None),
        (OpenFiles, Count(256), "is 256, must be at least 1024", files),
        (OsVersion, text("26.1.9"), "is 26.1.9, must be at least 26.2", None),
        (OsVersion, text("9.10"), "is 9.10, must be at least 26.2", None),
        (UnattendedBoot, Flag(false), false_, None),
        (RestartAfterPowerLoss, Flag(false), false_, power("autorestart", 1)),
        (SleepOff, Flag(false), false_, power("sleep", 0)),
        (DiskSleepOff, Flag(false), false_, power("disksleep", 0)),
        (PowerNapOff, Flag(false), false_, power("powernap", 0)),
        (LowPowerOff, Flag(false), false_, power("lowpowermode", 0)),
        (SpotlightOff, names(&["/", "/Volumes/m"]), "is /, /Volumes/m, must be none", spotlight),
        (AutomaticUpdatesOff, Flag(false), false_, Some(Repair::AutomaticUpdatesOff)),
        (ClockSynchronised, Flag(false), false_, Some(Repair::ClockSynchronised)),
        (FirewallOpen, Flag(false), false_, None),
    ]
}

#[test]
fn what_is_not_wanted_is_broken_and_mended_only_if_enforced() {
    let rows = broken();
    assert!(Invariant::ALL.iter().all(|i| rows.iter().any(|row| row.0 == *i)), "one row each");
    let observing = Setup {
        invariants: Invariants(Invariant::ALL.map(|i| (i, Mode::Observe)).into()),
        ..setup()
    };
    for (invariant, found, words, expected) in rows {
        let verdict = judge(&setup(), invariant, Some(&seen(found.clone())), NOW);
        let Verdict::Broken { repair, .. } = &verdict else { panic!("{invariant:?} {verdict:?}") };
        assert_eq!(*repair, expected, "{invariant:?}");
        let mended = if expected.is_some() { " (mended by the supervisor)" } else { "" };
        let all = format!("{} {words}{mended}", invariant.row().name);
        assert_eq!(verdict.trouble(invariant), Some(all), "{invariant:?}");

        let verdict = judge(&observing, invariant, Some(&seen(found)), NOW);
        assert!(matches!(verdict, Verdict::Broken { repair: None, .. }), "{verdict:?}");
    }
}

#[test]
fn a_reading_of_another_kind_is_a_failed_reading() {
    for invariant in Invariant::ALL {
        let fits = broken().into_iter().find(|row| row.0 == invariant).unwrap().1;
        for other in [Flag(true), Count(9_000), text("26.x"), names(&["a"])] {
            let is_same = std::mem::discriminant(&other) == std::mem::discriminant(&fits);
            if is_same && invariant != OsVersion {
                continue;
            }
            let verdict = judge(&setup(), invariant, Some(&seen(other.clone())), NOW);
            let Verdict::Unknown(Unknown::Failed(reason)) = &verdict else {
                panic!("{invariant:?} {other:?} {verdict:?}")
            };
            assert!(reason.contains("must be"), "{reason}");
            assert!(!verdict.is_accepted());
        }
    }
}

#[test]
fn a_reading_is_good_for_three_periods_and_one_timeout() {
    let host = setup().host;
    for invariant in Invariant::ALL {
        let period_ms = if invariant.row().is_slow { host.slow_poll_ms } else { host.poll_ms };
        let last_ms = NOW.boot_ms + 3 * period_ms + host.probe_timeout_ms;
        let found = broken().into_iter().find(|row| row.0 == invariant).unwrap().1;
        let sighting = seen(found);
        let at = |boot_ms| judge(&setup(), invariant, Some(&sighting), Moment { boot_ms, ..NOW });
        assert!(matches!(at(last_ms), Verdict::Broken { .. }), "{invariant:?}");
        assert_eq!(at(last_ms + 1), Verdict::Unknown(Unknown::Unread), "{invariant:?}");
        assert_eq!(judge(&setup(), invariant, None, NOW), Verdict::Unknown(Unknown::Unread));
    }
}

#[test]
fn what_the_config_does_not_ask_for_is_neither_missed_nor_called_healthy() {
    let linkless = || {
        let mut setup = setup();
        setup.host.link.clear();
        setup
    };
    let ringed = || Setup { uses_fabric: false, ..setup() };
    let unlimited = || {
        let mut setup = setup();
        setup.host.wired_limit_mib = 0;
        setup
    };
    let failed = || Some(Sighting::Unknown(Unknown::Failed("no such key".into())));
    let rows: [(Setup, Invariant, Option<Sighting>, &str); 9] = [
        (linkless(), LinkMtu, None, "host.link"),
        (linkless(), LinkMtu, Some(seen(Count(1_500))), "host.link"),
        (linkless(), LinkAddress, failed(), "host.link"),
        (linkless(), LinkUnbridged, None, "host.link"),
        (linkless(), RdmaActive, None, "host.link"),
        (ringed(), RdmaEnabled, Some(seen(Flag(false))), "engine.backend"),
        (ringed(), RdmaActive, failed(), "engine.backend"),
        (unlimited(), WiredLimit, failed(), "host.wired_limit_mib"),
        (unlimited(), WiredLimit, None, "host.wired_limit_mib"),
    ];
    for (setup, invariant, sighting, key) in rows {
        let verdict = judge(&setup, invariant, sighting.as_ref(), NOW);
        assert_eq!(verdict, Verdict::Unknown(Unknown::NotConfigured(key.into())));
        assert!(verdict.is_accepted());
        assert_eq!(verdict.trouble(invariant), None);
        // That the platform has no such thing says more.
        let absent = Sighting::Unknown(Unknown::NotOnThisPlatform);
        let verdict = judge(&setup, invariant, Some(&absent), NOW);
        assert_eq!(verdict, Verdict::Unknown(Unknown::NotOnThisPlatform));
    }
    // Without a limit any limit is right; an enabled port is no trouble either.
    let any = judge(&unlimited(), WiredLimit, Some(&seen(Count(7))), NOW);
    assert_eq!(any, Verdict::Holds { found: Count(7) });
    let enabled = judge(&ringed(), RdmaEnabled, Some(&seen(Flag(true))), NOW);
    assert_eq!(enabled, Verdict::Holds { found: Flag(true) });
}

#[test]
fn a_machine_comes_back_unattended_only_if_that_is_known() {
    let rows: [(Option<Sighting>, Option<&str>); 6] = [
        (Some(seen(Flag(true))), None),
        (Some(Sighting::Unknown(Unknown::NotOnThisPlatform)), None),
        (Some(seen(Flag(false))), Some("unattended_boot is no, must be yes")),
        (None, Some("unattended_boot is not known: it was not read yet, or too long ago")),
        (
            Some(Sighting::Unknown(Unknown::Failed("exit code 1".into()))),
            Some("unattended_boot is not known: reading it failed: exit code 1"),
        ),
        (
            Some(Sighting::Unknown(Unknown::Hung("fdesetup".into()))),
            Some(
                "unattended_boot is not known: its probe did not end (fdesetup), and runs again \
                 only in a new supervisor",
            ),
        ),
    ];
    for (sighting, expected) in rows {
        let invariants: BTreeMap<_, _> =
            sighting.map(|s| (UnattendedBoot, s)).into_iter().collect();
        let seen = Observation { invariants, ..super::super::tests::observation() };
        let result = unattended_boot(&Setup::default(), &seen, NOW);
        assert_eq!(result.err().as_deref(), expected);
    }
}

#[test]
fn words_are_bounded() {
    let many = Names((0..1_000).map(|n| format!("/Volumes/{}", "x".repeat(n))).collect());
    let words = in_words(SpotlightOff, &many);
    assert!(words.ends_with(" and 992 more") && words.len() < 700, "{words}");
    assert_eq!(in_words(OsVersion, &Text("é".repeat(1_000))).chars().count(), 64);
}
