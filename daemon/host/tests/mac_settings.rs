//! The settings of a Mac, read from recorded answers, and what they say about its invariants.

use std::net::Ipv4Addr;

use tandem_host::mac::{
    Unparsed,
    defaults::{self, Setting},
    fdesetup, firewall, firewall_rules, mdutil,
    os_version::{Build, Version},
    pmset, services, time_sync,
};
use tandem_policy::invariant::Found;

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("fixtures/", $path, ".txt"))
    };
}

const TRUE: Option<Found> = Some(Found::Flag(true));
const FALSE: Option<Found> = Some(Found::Flag(false));

#[test]
fn power_settings_hold_only_where_their_key_says_so() {
    let rows = [
        ("serving", fixture!("pmset/serving"), [TRUE, TRUE, TRUE, TRUE, TRUE]),
        ("as shipped", fixture!("pmset/as_shipped"), [FALSE, FALSE, FALSE, FALSE, FALSE]),
        ("sleep disabled", fixture!("pmset/sleep_disabled"), [TRUE, TRUE, TRUE, TRUE, TRUE]),
        ("keys missing", fixture!("pmset/virtual_machine"), [FALSE, TRUE, TRUE, None, None]),
    ];
    for (name, text, wanted) in rows {
        let settings = pmset::parse(text).unwrap();
        let found = [
            settings.sleep_off(),
            settings.disk_sleep_off(),
            settings.power_nap_off(),
            settings.low_power_off(),
            settings.restart_after_power_loss(),
        ];
        assert_eq!(found.map(Result::ok), wanted, "{name}");
    }
}

#[test]
fn a_key_that_a_mac_does_not_print_is_named_as_absent() {
    let settings = pmset::parse(fixture!("pmset/virtual_machine")).unwrap();
    let error = settings.restart_after_power_loss().unwrap_err();
    assert_eq!(error, Unparsed::Absent { tool: "pmset -g", what: "`autorestart`" });
    assert!(error.to_string().contains("does not say `autorestart`"), "{error}");
}

#[test]
fn only_settings_in_use_count() {
    let stored = "System-wide power settings:\n sleep 0\nCurrently in use:\n displaysleep 0\n";
    let wanted = Err(Unparsed::Absent { tool: "pmset -g", what: "`sleep`" });
    assert_eq!(pmset::parse(stored).unwrap().sleep_off(), wanted);
}

#[test]
fn low_power_mode_is_on_when_either_of_its_keys_says_so() {
    let rows = [
        (" powermode 0\n", TRUE),
        (" powermode 1\n", FALSE),
        (" powermode 2\n", TRUE),
        (" powermode 3\n", FALSE),
        (" lowpowermode 0\n", TRUE),
        (" lowpowermode 1\n", FALSE),
        (" powermode 2\n lowpowermode 1\n", FALSE),
        (" lowpowermodes 0\n", None),
    ];
    for (keys, wanted) in rows {
        let settings = pmset::parse(&format!("Currently in use:\n{keys}")).unwrap();
        assert_eq!(settings.low_power_off().ok(), wanted, "{keys:?}");
    }
}

#[test]
fn power_settings_of_another_form_are_refused() {
    let rows = [
        ("another report", fixture!("pmset/custom")),
        ("nothing", ""),
        ("no settings in use", "System-wide power settings:\n SleepDisabled 0\n"),
        ("no number", "Currently in use:\n sleep never\n"),
        ("negative", "Currently in use:\n sleep -1\n"),
        ("two values", "Currently in use:\n sleep 0\n sleep 1\n"),
        ("a complaint", "pmset: command not found\n"),
    ];
    for (name, text) in rows {
        assert!(matches!(pmset::parse(text), Err(Unparsed::Form { .. })), "{name}");
    }
}

#[test]
fn volumes_are_named_when_spotlight_indexes_them() {
    let names = |names: &[&str]| Some(Found::Names(names.iter().map(|n| (*n).into()).collect()));
    let rows = [
        ("on", fixture!("mdutil/enabled"), names(&["/", "/System/Volumes/Data"])),
        ("off; the system's own volume is unknown", fixture!("mdutil/off"), names(&[])),
        ("short of space", fixture!("mdutil/read_only"), names(&["/System/Volumes/Data"])),
        ("the data volume is unknown", fixture!("mdutil/data_unknown"), None),
        ("state not indented", "/:\nIndexing enabled.\n", names(&["/"])),
        (
            "one is on, another unknown",
            "/:\n\tIndexing enabled.\n/Volumes/A:\n\tError: unknown indexing state.\n",
            names(&["/"]),
        ),
        (
            "a volume that only starts like the data volume",
            "/System/Volumes/Data2:\n\tError: unknown indexing state.\n",
            names(&[]),
        ),
        (
            "a folder of the data volume",
            "/System/Volumes/Data/private/tmp:\n\tError: unknown indexing state.\n",
            None,
        ),
    ];
    for (name, text, wanted) in rows {
        assert_eq!(mdutil::spotlight_off(&mdutil::parse(text).unwrap()).ok(), wanted, "{name}");
    }
}

#[test]
fn all_six_states_of_a_volume_are_told_apart() {
    use mdutil::Indexing::*;
    let rows = [
        ("Indexing enabled.", Enabled),
        ("Indexing disabled.", Disabled),
        ("Indexing and searching disabled.", SearchingDisabled),
        ("No index.", NoIndex),
        ("Index is read-only.", ReadOnly),
        ("Error: unknown indexing state.", Unknown),
    ];
    for (state, wanted) in rows {
        let volumes = mdutil::parse(&format!("/Volumes/A: B:\n\t{state} \n")).unwrap();
        let seen: Vec<_> = volumes.iter().map(|v| (v.path.as_str(), v.indexing)).collect();
        assert_eq!(seen, [("/Volumes/A: B", wanted)]);
    }
}

#[test]
fn spotlight_answers_of_another_form_are_refused() {
    let rows = [
        ("the server is off, or hidden from us", fixture!("mdutil/server_disabled")),
        ("nothing", ""),
        ("no state", "/:\n"),
        ("no state of the first", "/:\n/Volumes/A:\n\tIndexing disabled.\n"),
        ("no volume", "\tIndexing disabled.\n"),
        ("a new state", "/:\n\tIndexing paused.\n"),
        ("two states", "/:\n\tIndexing disabled.\n\tIndexing enabled.\n"),
    ];
    for (name, text) in rows {
        assert!(matches!(mdutil::parse(text), Err(Unparsed::Form { .. })), "{name}");
    }
}

#[test]
fn only_a_disk_without_file_vault_boots_unattended() {
    let rows = [
        ("off", fixture!("fdesetup/off"), TRUE),
        ("on", fixture!("fdesetup/on"), FALSE),
        ("on and encrypting", fixture!("fdesetup/encrypting"), FALSE),
        ("encrypting", fixture!("fdesetup/encrypting_alone"), FALSE),
        ("off and encrypting", "FileVault is Off.\nEncryption in progress: Pending\n", FALSE),
        ("encrypting and off", "Encryption in progress: Pending\nFileVault is Off.\n", FALSE),
        ("off, on at the next log-in", fixture!("fdesetup/deferred"), None),
        ("decrypting", fixture!("fdesetup/decrypting"), None),
        ("both", "FileVault is Off.\nFileVault is On.\n", None),
        ("nothing", "\n", None),
    ];
    for (name, text, wanted) in rows {
        assert_eq!(fdesetup::parse(text).ok().map(|s| s.unattended_boot()), wanted, "{name}");
    }
}

#[test]
fn the_firewall_is_open_only_when_it_is_off() {
    let rows = [
        (fixture!("socketfilterfw/disabled"), TRUE),
        (fixture!("socketfilterfw/blocking"), FALSE),
        ("Firewall is blocking all non-essential connections. (State = 2)\n", FALSE),
        (fixture!("socketfilterfw/enabled"), None),
        (fixture!("socketfilterfw/enabled_stealth"), None),
        ("Firewall is disabled. (State = 0)\nFirewall stealth mode is off\n", TRUE),
        ("Firewall is disabled. (State = 0)\nFirewall is enabled. (State = 1)\n", None),
        ("Firewall is disabled. (State = 1)\n", None),
        ("Firewall is enabled. (State = 0)\n", None),
        ("Firewall is disabled.\n", None),
        ("", None),
    ];
    for (text, wanted) in rows {
        let found = firewall::parse(text).and_then(firewall::Firewall::firewall_open);
        assert_eq!(found.ok(), wanted, "{text:?}");
    }
}

#[test]
fn a_firewall_with_rules_says_that_ours_is_not_known() {
    let state = firewall::parse(fixture!("socketfilterfw/enabled")).unwrap();
    assert_eq!(state, firewall::Firewall::PerApplication);
    assert!(matches!(state.firewall_open(), Err(Unparsed::Absent { .. })));
}

#[test]
fn only_this_executables_own_rule_opens_an_enabled_firewall() {
    let program = "/usr/local/libexec/tandem/tandem".as_ref();
    let rows = [
        ("allowed", fixture!("firewall_rules/allowed").to_owned(), TRUE),
        ("blocked, another allowed", fixture!("firewall_rules/blocked").to_owned(), FALSE),
        ("another's path begins alike", fixture!("firewall_rules/absent").to_owned(), None),
        ("no rules", fixture!("firewall_rules/none").to_owned(), None),
        (
            "allowed and blocked",
            fixture!("firewall_rules/allowed")
                .replace("/Applications/Music.app", "/usr/local/libexec/tandem/tandem"),
            None,
        ),
    ];
    for (name, text, wanted) in rows {
        let rules = firewall_rules::parse(&text).unwrap();
        assert_eq!(firewall_rules::firewall_open(&rules, program).ok(), wanted, "{name}");
    }
}

#[test]
fn firewall_rules_of_another_form_are_refused() {
    let allowed = fixture!("firewall_rules/allowed");
    let rows = [
        ("nothing", String::new()),
        ("no count", allowed.lines().skip(1).collect::<Vec<_>>().join("\n")),
        ("cut after a rule", allowed.split("3 :").next().unwrap().into()),
        (
            "cut within a rule",
            allowed.trim_end().trim_end_matches("( Block incoming connections )").into(),
        ),
        ("a rule twice", allowed.replace("3 :", "2 :")),
        ("another decision", allowed.replace("Block", "Ask for")),
        ("no path", allowed.replace("/usr/libexec", "usr/libexec")),
        ("usage", "usage: socketfilterfw [--listapps]\n".into()),
    ];
    for (name, text) in rows {
        assert!(matches!(firewall_rules::parse(&text), Err(Unparsed::Form { .. })), "{name}");
    }
}

#[test]
fn a_preference_is_on_off_or_unset() {
    let rows = [
        (fixture!("defaults/off"), Some(Setting::Off)),
        (fixture!("defaults/on"), Some(Setting::On)),
        (fixture!("defaults/unset"), Some(Setting::Unset)),
        ("The domain/default pair of (com.apple.a, B) does not exist", Some(Setting::Unset)),
        ("2", None),
        ("", None),
        ("01", None),
        ("true\n", None),
        ("0\nThe domain/default pair of (a, b) does not exist\n", None),
        ("The domain/default pair of (a,\n b) does not exist", None),
        ("Could not read domain /Library/Preferences/a\n", None),
    ];
    for (text, wanted) in rows {
        assert_eq!(defaults::parse(text).ok(), wanted, "{text:?}");
    }
}

#[test]
fn one_update_preference_that_is_on_or_unset_is_enough_for_updates_to_come() {
    let off = [Setting::Off; defaults::UPDATE_PREFERENCES.len()];
    assert_eq!(defaults::automatic_updates_off(&off), Found::Flag(true));
    for (at, preference) in defaults::UPDATE_PREFERENCES.iter().enumerate() {
        for other in [Setting::On, Setting::Unset] {
            let mut settings = off;
            settings[at] = other;
            let found = defaults::automatic_updates_off(&settings);
            assert_eq!(found, Found::Flag(false), "{} {other:?}", preference.key);
        }
    }
}

#[test]
fn the_clock_follows_a_server_when_the_system_says_so() {
    let rows = [
        (fixture!("systemsetup/on"), TRUE),
        (fixture!("systemsetup/off"), FALSE),
        (fixture!("systemsetup/refused"), None),
        ("Network Time: Online\n", None),
    ];
    for (text, wanted) in rows {
        assert_eq!(time_sync::parse(text).ok().map(|t| t.clock_synchronised()), wanted, "{text:?}");
    }
}

#[test]
fn versions_are_ordered_by_their_numbers() {
    let ordered = ["15.7.2", "26", "26.0.1", "26.2", "26.2.1", "26.3", "26.10", "27.0"];
    let versions: Vec<Version> = ordered.iter().map(|text| text.parse().unwrap()).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    let same: [Version; 2] = ["26".parse().unwrap(), "26.0.0\n".parse().unwrap()];
    assert_eq!(same[0], same[1]);
    assert_eq!(versions[1].os_version(), Found::Text("26.0".into()));
    assert_eq!(versions[4].os_version(), Found::Text("26.2.1".into()));
}

#[test]
fn versions_and_builds_of_another_form_are_refused() {
    for text in ["", ".", "26.", ".2", "26.2.1.0", "+26.2", "26.-2", "26.2 beta", "4294967296"] {
        assert!(text.parse::<Version>().is_err(), "{text:?}");
    }
    for text in ["25F80", "25C56\n", "25E5207k"] {
        assert_eq!(text.parse::<Build>().unwrap().as_str(), text.trim_end());
    }
    for text in ["", "25", "F80", "25F", "25FG80", "25F80kk", "25F8k0", "25.80"] {
        assert!(text.parse::<Build>().is_err(), "{text:?}");
    }
    assert!(matches!("2".repeat(49).parse::<Version>(), Err(Unparsed::TooLong { .. })));
}

#[test]
fn network_services_keep_their_order_and_say_which_are_disabled() {
    let parse = |text| services::parse(text).unwrap();
    let names = |text| parse(text).into_iter().map(|s| (s.name, s.device)).collect::<Vec<_>>();
    let named = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, device)| ((*name).into(), (*device).into()))
            .collect::<Vec<(String, String)>>()
    };
    assert_eq!(
        names(fixture!("network_services/own_first")),
        named(&[
            ("Tandem Thunderbolt 4", "en5"),
            ("Ethernet", "en0"),
            ("Wi-Fi", "en1"),
            ("Office VPN", "")
        ]),
    );
    for text in [fixture!("network_services/bridged"), fixture!("network_services/own_last")] {
        let services = parse(text);
        let disabled: Vec<_> = services.iter().filter(|s| !s.is_enabled).collect();
        assert_eq!(disabled.len(), 1, "with and without a number");
        assert_eq!((&*disabled[0].name, &*disabled[0].port), ("USB LAN", "Ethernet Adapter (en8)"));
    }
    assert_eq!(parse("An asterisk (*) denotes that a network service is disabled.\n"), []);
}

#[test]
fn network_services_of_another_form_are_refused() {
    let text = fixture!("network_services/bridged");
    let rows = [
        ("nothing", String::new()),
        ("a complaint", fixture!("network_services/refused").into()),
        ("no sentence", text.lines().skip(1).collect::<Vec<_>>().join("\n")),
        ("no port", text.replace("(Hardware Port: Wi-Fi, Device: en1)", "")),
        ("cut", text.trim_end().trim_end_matches("bridge0)").into()),
        ("no name", text.replace("(3) Wi-Fi", "(3) ")),
        ("no place", text.replace("(3) Wi-Fi", "Wi-Fi")),
        ("a place that is none", text.replace("(3) Wi-Fi", "(x3) Wi-Fi")),
    ];
    for (name, text) in rows {
        assert!(matches!(services::parse(&text), Err(Unparsed::Form { .. })), "{name}");
    }
}

#[test]
fn an_address_is_fixed_only_if_it_is_the_one_and_set_by_hand() {
    let ours = Ipv4Addr::new(169, 254, 100, 7);
    let fixed = fixture!("network_info/fixed");
    let rows = [
        ("fixed", fixed.to_owned(), Some(true)),
        ("by DHCP", fixture!("network_info/dhcp").to_owned(), Some(false)),
        ("the same by DHCP", fixed.replace("Manual", "DHCP"), Some(false)),
        ("another", fixed.replace("100.7", "100.77"), Some(false)),
        ("no such service", fixture!("network_info/absent").to_owned(), None),
        ("nothing", String::new(), None),
    ];
    for (name, text, wanted) in rows {
        assert_eq!(services::has_fixed_address(&text, ours).ok(), wanted, "{name}");
    }
}
