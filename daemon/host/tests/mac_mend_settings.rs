//! Mending a Mac's settings: every call and command in order, what is left alone because it is so
//! already, and what a failure half-way says.

#![allow(clippy::unwrap_used)]

mod mac_world;

use mac_world::{Recorded, mac};
use tandem_host::{
    MendError,
    mac::{defaults::UPDATE_PREFERENCES, mend::mend, tools},
    probes::Tool,
};
use tandem_policy::{Repair, invariant::Unknown};

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("fixtures/", $path, ".txt"))
    };
}

fn fails(result: Result<(), MendError>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

fn late() -> Result<tandem_host::probes::CommandOutput, Unknown> {
    Err(Unknown::Failed("it did not end within 5000 ms and was killed".into()))
}

#[test]
fn the_wired_limit_is_set_once_and_read_again() {
    let default = || mac().with(|kernel| kernel.wired_limit_mib = Some(0));
    let repair = |mib| Repair::WiredLimit { mib };
    let set = default();
    mend(&repair(505_000), &set).unwrap();
    mend(&repair(505_000), &set).unwrap();
    assert_eq!(set.calls(), ["sysctl iogpu.wired_limit_mb=505000"], "once");

    let clamped = default().with(|kernel| kernel.wired_limit_mib_max = 498_073);
    fails(mend(&repair(505_000), &clamped), &["was set to 505000 and is 498073"]);
    let user = default().with(|kernel| kernel.is_root = false);
    fails(mend(&repair(505_000), &user), &["iogpu.wired_limit_mb needs root"]);
    let virtual_machine = default().with(|kernel| kernel.wired_limit_mib = None);
    fails(mend(&repair(505_000), &virtual_machine), &["iogpu.wired_limit_mb failed"]);
    assert_eq!(virtual_machine.calls(), [""; 0]);
}

#[test]
fn a_wired_limit_that_leaves_the_system_too_little_is_not_set() {
    let of = |gib: u64| {
        mac().with(|kernel| {
            kernel.wired_limit_mib = Some(0);
            kernel.memory_bytes = gib << 30;
        })
    };
    // 16 GiB are left, or an eighth of less memory.
    for (gib, most_mib) in [(512, 507_904), (192, 180_224), (64, 57_344), (16, 14_336)] {
        mend(&Repair::WiredLimit { mib: most_mib }, &of(gib)).unwrap();
        for mib in [most_mib + 1, u64::MAX] {
            let mac = of(gib);
            let most = format!("at most {most_mib}");
            fails(mend(&Repair::WiredLimit { mib }, &mac), &["the system needs the rest", &most]);
            assert_eq!(mac.calls(), [""; 0]);
        }
    }
}

fn spotlight(texts: &[&str]) -> Recorded {
    texts.iter().fold(mac(), |mac, text| mac.says(&tools::spotlight(), text))
}

fn volumes(names: &[&str]) -> Repair {
    Repair::SpotlightOff { volumes: names.iter().map(|name| (*name).to_owned()).collect() }
}

const OFF: &str = "/:\n\tIndexing disabled.\n/System/Volumes/Data:\n\tIndexing disabled.\n\
                   /Volumes/Models A:\n\tIndexing disabled.\n";

#[test]
fn spotlight_is_turned_off_volume_by_volume_and_the_sealed_one_comes_with_them() {
    let on = OFF.replace("disabled", "enabled");
    let sealed = OFF.replacen("disabled", "enabled", 1);
    let [list, data, models, root] = [
        "/usr/bin/mdutil -a -s",
        "/usr/bin/mdutil -i off /System/Volumes/Data",
        "/usr/bin/mdutil -i off '/Volumes/Models A'",
        "/usr/bin/mdutil -i off /",
    ];
    let rows: [(&str, &[&str], &[&str]); 5] = [
        ("all on", &[&on, OFF], &[list, data, models, list]),
        ("the sealed one stays on", &[&on, &sealed, OFF], &[list, data, models, list, root, list]),
        ("only the sealed one", &[&sealed, &sealed, OFF], &[list, list, root, list]),
        ("off meanwhile", &[OFF], &[list, list]),
        (
            "one short of space",
            &[&OFF.replacen("Indexing disabled.\n/Vol", "Index is read-only.\n/Vol", 1), OFF],
            &[list, data, list],
        ),
    ];
    for (name, texts, wanted) in rows {
        // mdutil ends badly at times although it did what was asked.
        let mac = ["/System/Volumes/Data", "/Volumes/Models A", "/"].iter().fold(
            spotlight(texts),
            |mac, volume| {
                mac.ends(&tools::set_spotlight_off(volume), 1, "Indexing disabled.\n", "")
            },
        );
        mend(&volumes(&["/", "/System/Volumes/Data", "/Volumes/Models A"]), &mac).unwrap();
        assert_eq!(mac.calls(), wanted, "{name}");
    }
    let mac = spotlight(&[&on, OFF]).says(&tools::set_spotlight_off("/Volumes/Models A"), "");
    mend(&volumes(&["/Volumes/Models A"]), &mac).unwrap();
    assert_eq!(mac.sets(), [models], "only the volumes that are asked for");
}

#[test]
fn a_volume_that_refuses_does_not_keep_the_others_from_being_set() {
    let on = OFF.replace("disabled", "enabled");
    let data_on = OFF.replacen("disabled.\n/Vol", "enabled.\n/Vol", 1);
    let [data, models] =
        ["/System/Volumes/Data", "/Volumes/Models A"].map(tools::set_spotlight_off);
    let both = volumes(&["/System/Volumes/Data", "/Volumes/Models A"]);
    let deaf = spotlight(&[&on, &data_on]).says(&models, "");
    let deaf = deaf.ends(&data, 1, "", "Error: could not change the state");
    let parts =
        ["turning Spotlight off failed", "/System/Volumes/Data is still indexed: Error: could"];
    fails(mend(&both, &deaf), &parts);
    assert_eq!(deaf.sets(), [data.to_string(), models.to_string()]);
    let hung = spotlight(&[&on, &data_on]).answers(&data, late()).says(&models, "");
    fails(mend(&both, &hung), &["/System/Volumes/Data is still indexed", "was killed"]);
    assert_eq!(hung.sets(), [data.to_string(), models.to_string()]);
    let user = spotlight(&[&on]).with(|kernel| kernel.is_root = false);
    fails(mend(&both, &user), &["turning Spotlight off needs root"]);
    assert_eq!(user.sets(), [""; 0]);
    let unseen = mac().answers(&tools::spotlight(), late());
    fails(mend(&both, &unseen), &["seeing what Spotlight indexes failed", "was killed"]);
}

fn power(texts: &[&str]) -> Recorded {
    texts.iter().fold(mac(), |mac, text| mac.says(&tools::power(), text))
}

fn key(key: &str, value: u32) -> Repair {
    Repair::Power { key: key.into(), value }
}

#[test]
fn each_power_key_is_set_alone_and_read_again() {
    let shipped = fixture!("pmset/as_shipped");
    for (name, value, from, to) in [
        ("sleep", 0, " sleep                1 (", " sleep                0 ("),
        ("disksleep", 0, "disksleep            10", "disksleep            0"),
        ("powernap", 0, "powernap             1", "powernap             0"),
        ("autorestart", 1, "autorestart          0", "autorestart          1"),
        ("lowpowermode", 0, "lowpowermode         1", "lowpowermode         0"),
    ] {
        let after = shipped.replace(from, to);
        assert_ne!(after, shipped, "{name}");
        let mac = power(&[shipped, &after]).says(&tools::set_power(name, value), "");
        mend(&key(name, value), &mac).unwrap();
        mend(&key(name, value), &mac).unwrap();
        assert_eq!(mac.sets(), [format!("/usr/bin/pmset -a {name} {value}")], "once");
    }
}

#[test]
fn low_power_is_turned_off_by_the_key_that_the_mac_has() {
    let mode = |mode: &str| format!("Currently in use:\n {mode}\n");
    let rows: [(&str, &str, &[&str]); 4] = [
        ("powermode 1", "powermode 0", &["/usr/bin/pmset -a powermode 0"]),
        ("powermode 2", "powermode 2", &[]),
        ("lowpowermode 1", "lowpowermode 0", &["/usr/bin/pmset -a lowpowermode 0"]),
        (
            "lowpowermode 1\n powermode 1",
            "lowpowermode 0\n powermode 0",
            &["/usr/bin/pmset -a lowpowermode 0", "/usr/bin/pmset -a powermode 0"],
        ),
    ];
    for (before, after, wanted) in rows {
        let mac = power(&[&mode(before), &mode(after)])
            .says(&tools::set_power("powermode", 0), "")
            .says(&tools::set_power("lowpowermode", 0), "");
        mend(&key("lowpowermode", 0), &mac).unwrap();
        assert_eq!(mac.sets(), wanted, "{before}");
    }
}

#[test]
fn a_power_key_that_is_unknown_or_resists_is_named() {
    let shipped = fixture!("pmset/as_shipped");
    for name in ["womp", "", "-g"] {
        let mac = power(&[shipped]);
        fails(mend(&key(name, 1), &mac), &[&format!("no power key {name}"), "observe"]);
        assert_eq!(mac.sets(), [""; 0]);
    }
    let virtual_machine = power(&[fixture!("pmset/virtual_machine")]);
    fails(mend(&key("autorestart", 1), &virtual_machine), &["no power key autorestart"]);
    let set = tools::set_power("sleep", 0);
    let deaf = power(&[shipped]).says(&set, "");
    fails(mend(&key("sleep", 0), &deaf), &["power key sleep was set to 0 and is 1"]);
    let refused = power(&[shipped]).ends(&set, 1, "", "'pmset' must be run as root");
    fails(
        mend(&key("sleep", 0), &refused),
        &["setting the power key sleep failed", "ended with 1"],
    );
    let hung = power(&[shipped]).answers(&set, late());
    fails(mend(&key("sleep", 0), &hung), &["setting the power key sleep failed", "was killed"]);
    let user = power(&[shipped]).with(|kernel| kernel.is_root = false);
    fails(mend(&key("sleep", 0), &user), &["setting the power key sleep needs root"]);
    assert_eq!(user.sets(), [""; 0]);
    let blind = mac().answers(&tools::power(), late());
    fails(mend(&key("sleep", 0), &blind), &["setting the power key sleep failed", "pmset -g"]);
}

/// A Mac with these update preferences, each read before and after it is set.
fn updates(answers: [(&str, &str); UPDATE_PREFERENCES.len()]) -> Recorded {
    UPDATE_PREFERENCES.iter().zip(answers).fold(mac(), |mac, (preference, (before, after))| {
        let read = tools::preference(preference);
        [before, after]
            .into_iter()
            .fold(mac, |mac, text| mac.ends(&read, i32::from(text.len() > 2), text, ""))
            .says(&tools::set_preference_off(preference), "")
    })
}

const OFF_NOW: (&str, &str) = ("0\n", "0\n");
const ON: (&str, &str) = ("1\n", "0\n");

fn write(at: usize) -> String {
    let preference = &UPDATE_PREFERENCES[at];
    format!("/usr/bin/defaults write {} {} -bool false", preference.domain, preference.key)
}

#[test]
fn only_update_preferences_that_are_not_off_are_set() {
    let unset = (fixture!("defaults/unset"), "0\n");
    let schedule = "/usr/sbin/softwareupdate --schedule off".to_owned();
    let rows = [
        ("all off", [OFF_NOW; 7], vec![]),
        ("all on", [ON; 7], [vec![schedule.clone()], (0..7).map(write).collect()].concat()),
        (
            "one unset",
            [OFF_NOW, OFF_NOW, unset, OFF_NOW, OFF_NOW, OFF_NOW, ON],
            vec![write(2), write(6)],
        ),
    ];
    for (name, answers, wanted) in rows {
        let mac =
            updates(answers).says(&tools::set_update_schedule_off(), "Automatic check is off\n");
        mend(&Repair::AutomaticUpdatesOff, &mac).unwrap();
        assert_eq!(mac.sets(), wanted, "{name}");
        mend(&Repair::AutomaticUpdatesOff, &mac).unwrap();
        assert_eq!(mac.sets(), wanted, "{name}: again, nothing is set");
    }
}

#[test]
fn an_update_preference_that_resists_is_named_with_what_is_done() {
    let step = "turning the update preference CriticalUpdateInstall off failed";
    let stuck = ("1\n", "1\n");
    let mac = updates([OFF_NOW, ON, OFF_NOW, stuck, ON, ON, ON]);
    fails(
        mend(&Repair::AutomaticUpdatesOff, &mac),
        &[step, "the preferences before it are off", "no effect"],
    );
    assert_eq!(mac.sets(), [write(1), write(3)], "and nothing after it");
    let first = updates([OFF_NOW, OFF_NOW, OFF_NOW, stuck, ON, ON, ON]);
    fails(mend(&Repair::AutomaticUpdatesOff, &first), &[step, "nothing was changed"]);
    let user = updates([ON; 7]).with(|kernel| kernel.is_root = false);
    fails(mend(&Repair::AutomaticUpdatesOff, &user), &["AutomaticCheckEnabled off needs root"]);
    assert_eq!(user.sets(), [""; 0]);
}

#[test]
fn the_clock_follows_a_server_after_one_command() {
    let [on, off] = [fixture!("systemsetup/on"), fixture!("systemsetup/off")];
    let time = |texts: &[&str]| {
        texts.iter().fold(mac(), |mac, text| mac.says(&tools::network_time(), text))
    };
    let set: Tool = tools::set_network_time_on();
    // It complains of an error at times although it did what was asked.
    let mac = time(&[off, on]).ends(&set, 1, "setUsingNetworkTime: On", "### Error:-99");
    mend(&Repair::ClockSynchronised, &mac).unwrap();
    mend(&Repair::ClockSynchronised, &mac).unwrap();
    assert_eq!(mac.sets(), ["/usr/sbin/systemsetup -setusingnetworktime on"], "once");
    let deaf = time(&[off]).says(&set, "no server");
    fails(mend(&Repair::ClockSynchronised, &deaf), &["time server failed", "no effect: no server"]);
    let hung = time(&[off]).answers(&set, late());
    fails(mend(&Repair::ClockSynchronised, &hung), &["time server failed", "was killed"]);
    let user = time(&[off]).with(|kernel| kernel.is_root = false);
    fails(mend(&Repair::ClockSynchronised, &user), &["time server needs root"]);
    assert_eq!(user.calls(), [""; 0], "reading it needs root too");
}

#[test]
fn open_files_need_no_root_and_no_tool() {
    let user = mac().with(|kernel| kernel.is_root = false);
    mend(&Repair::OpenFiles { count: 64 }, &user).unwrap();
    assert_eq!(user.calls(), [""; 0]);
}

#[test]
fn no_command_ever_asks_for_file_vault_or_rdma_to_change() {
    for tool in [tools::file_vault(), tools::rdma_status()] {
        assert_eq!(tool.arguments, ["status"], "{tool}");
    }
}
