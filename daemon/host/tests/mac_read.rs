//! Every invariant of a Mac, read from recorded answers: what is found, or why it is not known, and
//! which commands it took.

#![allow(clippy::unwrap_used)]

mod mac_world;

use mac_world::{Recorded, mac};
use tandem_host::{
    mac::{defaults::UPDATE_PREFERENCES, read, tools},
    probes::Tool,
};
use tandem_policy::{
    invariant::{Found, Invariant, Unknown},
    settings::Host,
};

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("fixtures/", $path, ".txt"))
    };
}

const TRUE: Result<Found, &str> = Ok(Found::Flag(true));
const FALSE: Result<Found, &str> = Ok(Found::Flag(false));

fn names(names: &[&str]) -> Result<Found, &'static str> {
    Ok(Found::Names(names.iter().map(|name| (*name).to_owned()).collect()))
}

fn host() -> Host {
    Host { link: "en5".into(), ..Host::default() }
}

fn look(invariant: Invariant, mac: &Recorded) -> Result<(Found, String), Unknown> {
    read::read(invariant, &host(), &[std::env::temp_dir()], mac)
}

/// One row: what a Mac is like, and what is found; the `Err` is a part of the reason.
type Row = (&'static str, Invariant, Recorded, Result<Found, &'static str>);

fn check(rows: Vec<Row>) {
    for (name, invariant, mac, wanted) in rows {
        match (look(invariant, &mac), wanted) {
            (Ok((found, source)), Ok(wanted)) => {
                assert_eq!(found, wanted, "{invariant:?}: {name}");
                assert!(!source.is_empty(), "{invariant:?}: {name}");
            }
            (Err(Unknown::Failed(reason)), Err(part)) => {
                assert!(reason.contains(part), "{invariant:?}: {name}: {reason}");
            }
            (found, wanted) => panic!("{invariant:?}: {name}: {found:?}, wanted {wanted:?}"),
        }
        assert_eq!(mac.sets(), [""; 0], "{invariant:?}: {name}: reading sets nothing");
    }
}

#[test]
fn a_link_is_read_from_the_kernel() {
    use Invariant::{LinkAddress, LinkMtu, LinkUnbridged};
    let bridged = || mac().with(|kernel| kernel.bridge = Some("bridge0".into()));
    let bare = || mac().with(|kernel| kernel.addresses.clear());
    let two = || mac().with(|kernel| kernel.addresses.push([192, 168, 7, 1].into()));
    check(vec![
        ("as wanted", LinkMtu, mac(), Ok(Found::Count(9_000))),
        ("lost", LinkMtu, mac().with(|k| k.mtu_bytes = 1_500), Ok(Found::Count(1_500))),
        ("one", LinkAddress, mac(), names(&["169.254.0.1"])),
        ("two", LinkAddress, two(), names(&["169.254.0.1", "192.168.7.1"])),
        ("none", LinkAddress, bare(), names(&[])),
        ("in no bridge", LinkUnbridged, mac(), TRUE),
        ("in one", LinkUnbridged, bridged(), FALSE),
    ]);
}

#[test]
fn a_link_that_is_not_there_or_not_configured_is_unknown() {
    for invariant in [Invariant::LinkMtu, Invariant::LinkAddress, Invariant::LinkUnbridged] {
        let absent = Host { link: "en9".into(), ..host() };
        let failed = Unknown::Failed("there is no interface en9".into());
        assert_eq!(read::read(invariant, &absent, &[], &mac()), Err(failed), "{invariant:?}");
    }
    let of_link = [Invariant::LinkMtu, Invariant::LinkAddress, Invariant::LinkUnbridged];
    for invariant in of_link.into_iter().chain([Invariant::RdmaActive]) {
        let wanted = Err(Unknown::NotConfigured("host.link".into()));
        assert_eq!(read::read(invariant, &Host::default(), &[], &mac()), wanted, "{invariant:?}");
    }
}

#[test]
fn the_kernel_tells_the_wired_limit_the_version_and_the_gpu() {
    use Invariant::{GpuUsable, OsVersion, WiredLimit};
    let limit = |mib| mac().with(|kernel| kernel.wired_limit_mib = mib);
    check(vec![
        ("set", WiredLimit, mac(), Ok(Found::Count(505_000))),
        ("the system's default", WiredLimit, limit(Some(0)), Ok(Found::Count(0))),
        ("negative", WiredLimit, limit(Some(-1)), Err("iogpu.wired_limit_mb is -1")),
        ("no such name", WiredLimit, limit(None), Err("iogpu.wired_limit_mb can't be read")),
        ("release", OsVersion, mac(), Ok(Found::Text("26.3".into()))),
        ("unknown", OsVersion, mac().with(|k| k.version = "26.beta"), Err("unknown form")),
        ("there", GpuUsable, mac(), TRUE),
        ("not there", GpuUsable, mac().with(|k| k.has_gpu = false), FALSE),
    ]);
}

#[test]
fn what_both_platforms_share_is_read_too() {
    let (disk, _) = look(Invariant::DiskSpace, &mac()).unwrap();
    assert!(matches!(disk, Found::Count(bytes) if bytes > 0), "{disk:?}");
    let (files, source) = look(Invariant::OpenFiles, &mac()).unwrap();
    assert!(matches!(files, Found::Count(count) if count > 0), "{files:?}");
    assert_eq!(source, "getrlimit NOFILE");
}

#[test]
fn settings_are_read_by_one_tool_each() {
    use Invariant::{
        ClockSynchronised, DiskSleepOff, LowPowerOff, PowerNapOff, RdmaEnabled,
        RestartAfterPowerLoss, SleepOff, SpotlightOff, UnattendedBoot,
    };
    let says = |tool: Tool, text| mac().says(&tool, text);
    let complains = |tool: Tool, text| mac().ends(&tool, 1, "", text);
    let serving = || says(tools::power(), fixture!("pmset/serving"));
    let shipped = || says(tools::power(), fixture!("pmset/as_shipped"));
    let virtual_machine = || says(tools::power(), fixture!("pmset/virtual_machine"));
    let switch = |text| says(tools::rdma_status(), text);
    let vault = |text| says(tools::file_vault(), text);
    let spotlight = |text| says(tools::spotlight(), text);
    let clock = |text| says(tools::network_time(), text);
    check(vec![
        ("on", RdmaEnabled, switch("enabled\n"), TRUE),
        ("off", RdmaEnabled, switch("disabled\n"), FALSE),
        (
            "off, ends badly",
            RdmaEnabled,
            mac().ends(&tools::rdma_status(), 1, "disabled\n", ""),
            FALSE,
        ),
        (
            "an older Mac",
            RdmaEnabled,
            complains(tools::rdma_status(), "no such command"),
            Err("form"),
        ),
        ("off", UnattendedBoot, vault(fixture!("fdesetup/off")), TRUE),
        ("on", UnattendedBoot, vault(fixture!("fdesetup/on")), FALSE),
        ("decrypting", UnattendedBoot, vault(fixture!("fdesetup/decrypting")), Err("form")),
        ("serving", SleepOff, serving(), TRUE),
        ("shipped", SleepOff, shipped(), FALSE),
        ("serving", DiskSleepOff, serving(), TRUE),
        ("shipped", DiskSleepOff, shipped(), FALSE),
        ("serving", PowerNapOff, serving(), TRUE),
        ("shipped", PowerNapOff, shipped(), FALSE),
        ("serving", LowPowerOff, serving(), TRUE),
        ("shipped", LowPowerOff, shipped(), FALSE),
        ("not printed", LowPowerOff, virtual_machine(), Err("does not say `powermode`")),
        ("serving", RestartAfterPowerLoss, serving(), TRUE),
        ("shipped", RestartAfterPowerLoss, shipped(), FALSE),
        (
            "not printed",
            RestartAfterPowerLoss,
            virtual_machine(),
            Err("does not say `autorestart`"),
        ),
        (
            "ends badly",
            SleepOff,
            mac().ends(&tools::power(), 1, fixture!("pmset/serving"), "lost"),
            Err("ended with 1: lost"),
        ),
        (
            "on",
            SpotlightOff,
            spotlight(fixture!("mdutil/enabled")),
            names(&["/", "/System/Volumes/Data"]),
        ),
        ("off", SpotlightOff, spotlight(fixture!("mdutil/off")), names(&[])),
        (
            "off, ends badly",
            SpotlightOff,
            mac().ends(&tools::spotlight(), 1, fixture!("mdutil/off"), ""),
            names(&[]),
        ),
        ("no server", SpotlightOff, spotlight(fixture!("mdutil/server_disabled")), Err("form")),
        ("on", ClockSynchronised, clock(fixture!("systemsetup/on")), TRUE),
        ("off", ClockSynchronised, clock(fixture!("systemsetup/off")), FALSE),
        (
            "not root",
            ClockSynchronised,
            clock(fixture!("systemsetup/refused")),
            Err("administrator"),
        ),
    ]);
}

/// A Mac on which each update preference has this answer.
fn updates(answer: impl Fn(usize) -> (i32, &'static str)) -> Recorded {
    UPDATE_PREFERENCES.iter().enumerate().fold(mac(), |mac, (at, preference)| {
        let (code, text) = answer(at);
        let (stdout, stderr) = if code == 0 { (text, "") } else { ("", text) };
        mac.ends(&tools::preference(preference), code, stdout, stderr)
    })
}

#[test]
fn updates_are_off_when_each_of_their_preferences_is() {
    let unset = fixture!("defaults/unset");
    let broken = (1, "Could not read domain\n");
    check(vec![
        ("off", Invariant::AutomaticUpdatesOff, updates(|_| (0, "0\n")), TRUE),
        (
            "one on",
            Invariant::AutomaticUpdatesOff,
            updates(|at| (0, if at == 6 { "1\n" } else { "0\n" })),
            FALSE,
        ),
        (
            "one unset",
            Invariant::AutomaticUpdatesOff,
            updates(|at| if at == 2 { (1, unset) } else { (0, "0\n") }),
            FALSE,
        ),
        (
            "one unknown",
            Invariant::AutomaticUpdatesOff,
            updates(|at| if at == 2 { broken } else { (0, "0\n") }),
            Err("form"),
        ),
    ]);
    let mac = updates(|_| (0, "0\n"));
    look(Invariant::AutomaticUpdatesOff, &mac).unwrap();
    let calls = mac.calls();
    assert_eq!(calls.len(), UPDATE_PREFERENCES.len());
    let first = "/usr/bin/defaults read /Library/Preferences/com.apple.SoftwareUpdate AutomaticCheckEnabled";
    assert_eq!(calls[0], first);
}

#[test]
fn an_enabled_firewall_is_judged_by_this_executables_rule() {
    let state = |text| mac().says(&tools::firewall(), text);
    let rules = |text| {
        state(fixture!("socketfilterfw/enabled_stealth")).says(&tools::firewall_rules(), text)
    };
    let cut = || {
        state(fixture!("socketfilterfw/enabled")).ends(
            &tools::firewall_rules(),
            1,
            fixture!("firewall_rules/allowed"),
            "",
        )
    };
    check(vec![
        ("off", Invariant::FirewallOpen, state(fixture!("socketfilterfw/disabled")), TRUE),
        ("blocks all", Invariant::FirewallOpen, state(fixture!("socketfilterfw/blocking")), FALSE),
        ("allowed", Invariant::FirewallOpen, rules(fixture!("firewall_rules/allowed")), TRUE),
        ("blocked", Invariant::FirewallOpen, rules(fixture!("firewall_rules/blocked")), FALSE),
        (
            "no rule",
            Invariant::FirewallOpen,
            rules(fixture!("firewall_rules/absent")),
            Err("a rule for"),
        ),
        ("a cut list", Invariant::FirewallOpen, cut(), Err("ended with 1")),
    ]);
    let off = state(fixture!("socketfilterfw/disabled"));
    look(Invariant::FirewallOpen, &off).unwrap();
    assert_eq!(off.calls().len(), 1, "a firewall that is off is asked nothing more");
}

/// A Mac with these sockets, devices and state of its own device.
fn rdma(hardware: &str, devices: &str, info: &str) -> Recorded {
    mac()
        .says(&tools::hardware_ports(), hardware)
        .says(&tools::rdma_devices(), devices)
        .says(&tools::rdma_device("rdma_en5"), info)
}

#[test]
fn rdma_is_active_only_if_the_ports_own_device_is() {
    use Invariant::RdmaActive;
    let ports = fixture!("networksetup/hardware_ports");
    let six = fixture!("ibv_devices/six");
    let active = fixture!("ibv_devinfo/active");
    let renumbered = ports.replace("Device: en5", "Device: en9");
    let twice = ports.replace("Device: en4", "Device: en5");
    let ethernet =
        ports.replace("Device: en0", "Device: en99").replace("Device: en5", "Device: en0");
    let ethernet = ethernet.replace("Device: en99", "Device: en5");
    let doubled = format!("{six}    rdma_en5        	d3b5e9ab23cfac05\n");
    check(vec![
        ("active", RdmaActive, rdma(ports, six, active), TRUE),
        ("down", RdmaActive, rdma(ports, six, fixture!("ibv_devinfo/down")), FALSE),
        ("another's", RdmaActive, rdma(ports, six, fixture!("ibv_devinfo/another_active")), FALSE),
        ("no devices", RdmaActive, rdma(ports, fixture!("ibv_devices/none"), active), FALSE),
        ("listed twice", RdmaActive, rdma(ports, &doubled, active), Err("listed twice")),
        ("the port has gone", RdmaActive, rdma(&renumbered, six, active), Err("no hardware port")),
        ("the port is ambiguous", RdmaActive, rdma(&twice, six, active), Err("as well as")),
        ("not Thunderbolt", RdmaActive, rdma(&ethernet, six, active), Err("not a Thunderbolt one")),
        ("cut", RdmaActive, rdma(ports, six, &active[..120]), Err("form")),
    ]);
    let absent = rdma(ports, fixture!("ibv_devices/none"), active);
    look(Invariant::RdmaActive, &absent).unwrap();
    assert!(!absent.calls().iter().any(|call| call.contains("devinfo")), "nothing to ask");
    let there = rdma(ports, six, active);
    let (_, source) = look(Invariant::RdmaActive, &there).unwrap();
    assert_eq!(source, "/usr/bin/ibv_devinfo -d rdma_en5");
    let wanted = ["/usr/sbin/networksetup -listallhardwareports", "/usr/bin/ibv_devices", &*source];
    assert_eq!(there.calls(), wanted);
}

#[test]
fn a_late_or_missing_tool_leaves_its_invariant_unknown_and_says_why() {
    let slow = [
        (Invariant::RdmaEnabled, tools::rdma_status()),
        (Invariant::RdmaActive, tools::hardware_ports()),
        (Invariant::UnattendedBoot, tools::file_vault()),
        (Invariant::RestartAfterPowerLoss, tools::power()),
        (Invariant::SleepOff, tools::power()),
        (Invariant::DiskSleepOff, tools::power()),
        (Invariant::PowerNapOff, tools::power()),
        (Invariant::LowPowerOff, tools::power()),
        (Invariant::SpotlightOff, tools::spotlight()),
        (Invariant::AutomaticUpdatesOff, tools::preference(&UPDATE_PREFERENCES[0])),
        (Invariant::ClockSynchronised, tools::network_time()),
        (Invariant::FirewallOpen, tools::firewall()),
    ];
    let starts_tools = |i: &Invariant| i.row().is_slow && *i != Invariant::GpuUsable;
    let all = Invariant::ALL.into_iter().filter(starts_tools).count();
    assert_eq!(slow.len(), all, "every invariant that starts a tool has a row");
    for (invariant, tool) in slow {
        for unknown in [Unknown::Hung("late".into()), Unknown::Failed("not there".into())] {
            let mac = mac().answers(&tool, Err(unknown.clone()));
            assert_eq!(look(invariant, &mac), Err(unknown), "{invariant:?}");
            assert_eq!(mac.calls(), [tool.to_string()], "{invariant:?}: nothing more is run");
        }
    }
}

#[test]
fn only_tools_that_ask_the_rdma_driver_are_never_run_again_when_late() {
    assert!(tools::rdma_devices().asks_driver && tools::rdma_device("rdma_en5").asks_driver);
    for tool in [tools::rdma_status(), tools::hardware_ports(), tools::power(), tools::spotlight()]
    {
        assert!(!tool.asks_driver, "{tool}");
    }
}
