//! For every parser of text: its recorded answers, and what must be in a text for what it reads
//! there. The checks look for plain words and lines, so that they don't repeat a parser's mistakes.

use std::{net::Ipv4Addr, path::Path};

use proptest::{prelude::*, test_runner::TestCaseError};
use tandem_host::mac::{
    Unparsed, accelerator, defaults, fdesetup, firewall, firewall_rules, hardware_ports, ifconfig,
    launchctl, mdutil, network_setup,
    os_version::{Build, Version},
    pmset, rdma, services, thunderbolt, time_sync, vm_stat,
};
use tandem_policy::invariant::Found;

/// Outside: what was read is not in the text. Inside: whether the parser took it.
type Checked = Result<Result<(), Unparsed>, TestCaseError>;

/// A parser under test.
pub(crate) struct Parser {
    pub(crate) name: &'static str,
    pub(crate) fixtures: &'static [&'static str],
    pub(crate) check: fn(&str) -> Checked,
}

/// All of them.
pub(crate) const PARSERS: &[Parser] = &[
    Parser { name: "pmset", fixtures: &["pmset"], check: power },
    Parser { name: "mdutil", fixtures: &["mdutil"], check: spotlight },
    Parser { name: "fdesetup", fixtures: &["fdesetup"], check: file_vault },
    Parser { name: "socketfilterfw", fixtures: &["socketfilterfw"], check: firewall_state },
    Parser { name: "firewall rules", fixtures: &["firewall_rules"], check: firewall_programs },
    Parser { name: "network services", fixtures: &["network_services"], check: service_order },
    Parser { name: "network service", fixtures: &["network_info"], check: service_address },
    Parser { name: "defaults", fixtures: &["defaults"], check: preference },
    Parser { name: "systemsetup", fixtures: &["systemsetup"], check: clock },
    Parser { name: "version", fixtures: &["os_version"], check: version },
    Parser { name: "build", fixtures: &["os_version"], check: build },
    Parser { name: "networksetup -getMTU", fixtures: &["networksetup"], check: mtu },
    Parser { name: "hardware ports", fixtures: &["networksetup"], check: hardware },
    Parser { name: "system_profiler", fixtures: &["system_profiler"], check: thunderbolt_report },
    Parser { name: "ifconfig", fixtures: &["ifconfig"], check: interfaces },
    Parser { name: "rdma_ctl", fixtures: &["rdma_ctl"], check: rdma_switch },
    Parser { name: "ibv_devices", fixtures: &["ibv_devices"], check: rdma_devices },
    Parser { name: "ibv_devinfo", fixtures: &["ibv_devinfo"], check: rdma_ports },
    Parser { name: "ioreg", fixtures: &["ioreg"], check: gpu },
    Parser { name: "vm_stat", fixtures: &["vm_stat"], check: memory },
    Parser { name: "launchctl", fixtures: &["launchctl"], check: job },
];

macro_rules! taken {
    ($parsed:expr) => {
        match $parsed {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        }
    };
}

const TRUE: Found = Found::Flag(true);

/// Whether a line consists of these words, perhaps with a remark in parentheses after them.
fn has_words(text: &str, key: &str, values: &[u32]) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        let value = (words.next() == Some(key)).then(|| words.next()).flatten();
        let value = value.and_then(|word| word.parse().ok());
        value.is_some_and(|value: u32| values.contains(&value))
            && words.next().is_none_or(|word| word.starts_with('('))
    })
}

fn has_line(text: &str, wanted: &str) -> bool {
    text.lines().any(|line| line.trim() == wanted)
}

fn power(text: &str) -> Checked {
    let settings = taken!(pmset::parse(text));
    prop_assert!(has_line(text, "Currently in use:"));
    let sleepless = has_words(text, "sleep", &[0]) || has_words(text, "SleepDisabled", &[1]);
    let full = has_words(text, "powermode", &[0, 2]) || has_words(text, "lowpowermode", &[0]);
    let claims = [
        ("sleep", settings.sleep_off(), sleepless),
        ("disk", settings.disk_sleep_off(), has_words(text, "disksleep", &[0])),
        ("nap", settings.power_nap_off(), has_words(text, "powernap", &[0])),
        ("low power", settings.low_power_off(), full),
        ("restart", settings.restart_after_power_loss(), has_words(text, "autorestart", &[1])),
    ];
    for (name, found, evidence) in claims {
        prop_assert!(found != Ok(TRUE) || evidence, "{name} in {text:?}");
    }
    Ok(Ok(()))
}

fn spotlight(text: &str) -> Checked {
    let volumes = taken!(mdutil::parse(text));
    let states = text.lines().filter(|line| line.trim().ends_with('.')).count();
    prop_assert_eq!(volumes.len(), states, "a state a volume in {:?}", text);
    for volume in &volumes {
        let heading = format!("{}:", volume.path);
        prop_assert!(text.lines().any(|line| line.trim_end() == heading), "{heading} in {text:?}");
    }
    if let Ok(Found::Names(names)) = mdutil::spotlight_off(&volumes) {
        let on = |line: &&str| ["Indexing enabled.", "Index is read-only."].contains(&line.trim());
        prop_assert_eq!(names.len(), text.lines().filter(on).count(), "{:?}", text);
    }
    Ok(Ok(()))
}

fn file_vault(text: &str) -> Checked {
    let off = taken!(fdesetup::parse(text)).unattended_boot() == TRUE;
    let others = text.contains("is On.") || text.contains("in progress");
    prop_assert_eq!(off, has_line(text, "FileVault is Off.") && !others, "{:?}", text);
    Ok(Ok(()))
}

fn firewall_state(text: &str) -> Checked {
    let open = taken!(firewall::parse(text)).firewall_open();
    let off = text.trim().lines().next().map(str::trim_end);
    let off = off == Some("Firewall is disabled. (State = 0)");
    prop_assert_eq!(open == Ok(TRUE), off, "{:?}", text);
    Ok(Ok(()))
}

fn firewall_programs(text: &str) -> Checked {
    let rules = taken!(firewall_rules::parse(text));
    let print = |(at, rule): (usize, &firewall_rules::Rule)| {
        let done = if rule.is_allowed { "Allow" } else { "Block" };
        format!("{} : {}\n ( {done} incoming connections )\n", at + 1, rule.program.display())
    };
    let body: String = rules.iter().enumerate().map(print).collect();
    let again = format!("ALF: total number of apps = {}\n\n{body}", rules.len());
    let ours = Path::new("/usr/local/libexec/tandem/tandem");
    if firewall_rules::firewall_open(&rules, ours) == Ok(TRUE) {
        prop_assert!(text.contains("tandem/tandem") && text.contains("( Allow "), "{text:?}");
    }
    prop_assert_eq!(firewall_rules::parse(&again), Ok(rules), "{:?}", text);
    Ok(Ok(()))
}

fn service_order(text: &str) -> Checked {
    let services = taken!(services::parse(text));
    let print = |(at, service): (usize, &services::Service)| {
        let star = if service.is_enabled { "" } else { "*" };
        let services::Service { name, port, device, .. } = service;
        format!("({star}{}) {name}\n(Hardware Port: {port}, Device: {device})\n\n", at + 1)
    };
    let body: String = services.iter().enumerate().map(print).collect();
    let again = format!("An asterisk (*) denotes that a service is disabled.\n{body}");
    prop_assert_eq!(services::parse(&again), Ok(services), "{:?}", text);
    Ok(Ok(()))
}

fn service_address(text: &str) -> Checked {
    let fixed = taken!(services::has_fixed_address(text, Ipv4Addr::new(169, 254, 100, 7)));
    let way = text.trim_start().lines().next().map(str::trim_end);
    let claim = way == Some("Manual Configuration") && has_line(text, "IP address: 169.254.100.7");
    prop_assert_eq!(fixed, claim, "{:?}", text);
    Ok(Ok(()))
}

fn preference(text: &str) -> Checked {
    match taken!(defaults::parse(text)) {
        defaults::Setting::Off => prop_assert_eq!(text.trim(), "0"),
        defaults::Setting::On => prop_assert_eq!(text.trim(), "1"),
        defaults::Setting::Unset => prop_assert!(text.trim().ends_with(") does not exist")),
    }
    Ok(Ok(()))
}

fn clock(text: &str) -> Checked {
    let synchronised = taken!(time_sync::parse(text)).clock_synchronised() == TRUE;
    prop_assert_eq!(synchronised, text.trim() == "Network Time: On", "{:?}", text);
    Ok(Ok(()))
}

fn version(text: &str) -> Checked {
    let version: Version = taken!(text.parse());
    prop_assert_eq!(version.to_string().parse(), Ok(version));
    prop_assert!(text.trim().bytes().all(|byte| byte == b'.' || byte.is_ascii_digit()));
    Ok(Ok(()))
}

fn build(text: &str) -> Checked {
    let build: Build = taken!(text.parse());
    prop_assert_eq!(build.as_str(), text.trim());
    prop_assert!(text.trim().bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Ok(Ok(()))
}

fn mtu(text: &str) -> Checked {
    let mtu = taken!(network_setup::parse(text));
    let again =
        format!("Active MTU: {} (Current Setting: {})", mtu.active_bytes, mtu.setting_bytes);
    prop_assert_eq!(network_setup::parse(&again), Ok(mtu));
    prop_assert!(text.trim().starts_with("Active MTU: "));
    Ok(Ok(()))
}

fn hardware(text: &str) -> Checked {
    let ports = taken!(hardware_ports::parse(text));
    let line = |p: &hardware_ports::HardwarePort| {
        format!("Hardware Port: {}\nDevice: {}\n", p.name, p.device)
    };
    let again: String = ports.iter().map(line).collect();
    prop_assert_eq!(hardware_ports::parse(&again), Ok(ports), "{:?}", text);
    Ok(Ok(()))
}

fn thunderbolt_report(text: &str) -> Checked {
    let buses = taken!(thunderbolt::parse(text));
    let domains = text.matches("\"domain_uuid_key\"").count();
    let read = buses.iter().map(|b| b.peers.len() + usize::from(b.domain_uuid.is_some()));
    prop_assert!(read.sum::<usize>() <= domains, "{text:?}");
    let linked = buses.iter().filter_map(|b| b.receptacle.as_ref()).filter(|r| r.connected);
    prop_assert!(linked.count() <= text.matches("\"receptacle_connected\"").count());
    let hardware =
        [hardware_ports::HardwarePort { name: "Thunderbolt 4".into(), device: "en5".into() }];
    let ports = thunderbolt::ports(&buses, &hardware);
    for link in thunderbolt::links(&ports, &ports) {
        // Only a damaged report can link a Mac to itself, and then it names its own domain.
        let domain = &link.theirs.domain_uuid;
        prop_assert!(text.matches(domain.as_str()).count() > 1, "{domain} in {text:?}");
    }
    Ok(Ok(()))
}

fn interfaces(text: &str) -> Checked {
    let interfaces = taken!(ifconfig::parse(text));
    let print = |i: &ifconfig::Interface| {
        let members = i.members.iter().map(|m| format!("\tmember: {m}\n"));
        let addresses = i.ipv4.iter().map(|a| format!("\tinet {a} netmask 0xffff0000\n"));
        let status = i.status.iter().map(|s| format!("\tstatus: {s}\n"));
        let about: String = members.chain(addresses).chain(status).collect();
        format!("{}: flags={:x}<> mtu {}\n{about}", i.name, i.flags, i.mtu_bytes)
    };
    let again: String = interfaces.iter().map(print).collect();
    if ifconfig::link_unbridged(&interfaces, "en5") == Ok(TRUE) {
        let bridged = text.lines().any(|line| {
            line.starts_with(char::is_whitespace)
                && line.split_whitespace().take(2).eq(["member:", "en5"])
        });
        prop_assert!(!bridged, "{text:?}");
    }
    prop_assert_eq!(ifconfig::parse(&again), Ok(interfaces), "{:?}", text);
    Ok(Ok(()))
}

fn rdma_switch(text: &str) -> Checked {
    let enabled = taken!(rdma::parse_status(text)).rdma_enabled() == TRUE;
    prop_assert_eq!(enabled, text.trim() == "enabled", "{:?}", text);
    Ok(Ok(()))
}

fn rdma_devices(text: &str) -> Checked {
    let devices = taken!(rdma::parse_devices(text));
    let line = |device: &rdma::Device| format!("{} {:016x}\n", device.name, device.node_guid);
    let lines: String = devices.iter().map(line).collect();
    let again = format!("device node GUID\n--- ---\n{lines}");
    prop_assert_eq!(rdma::parse_devices(&again), Ok(devices), "{:?}", text);
    Ok(Ok(()))
}

fn rdma_ports(text: &str) -> Checked {
    let devices = taken!(rdma::parse_devinfo(text));
    let count = |wanted: &str| {
        let key = |line: &str| line.split_once(':').map(|(key, _)| key.trim().to_owned());
        text.lines().filter(|line| key(line).as_deref() == Some(wanted)).count()
    };
    prop_assert_eq!(devices.len(), count("hca_id"), "{:?}", text);
    let ports: usize = devices.iter().map(|device| device.ports.len()).sum();
    prop_assert_eq!((ports, ports), (count("port"), count("state")), "{:?}", text);
    if rdma::rdma_active(&devices, "en5") == TRUE {
        // Its own part of the text: from its name to the next device.
        let text = format!("\n{text}");
        let parts = text.split("\nhca_id").filter(|part| {
            let name = part.lines().next().and_then(|line| line.split_once(':'));
            name.is_some_and(|(_, name)| name.trim() == "rdma_en5")
        });
        let active = parts.filter(|part| part.contains("PORT_ACTIVE (4)"));
        prop_assert!(active.count() > 0, "{text:?}");
    }
    Ok(Ok(()))
}

fn gpu(text: &str) -> Checked {
    let accelerators = taken!(accelerator::parse(text));
    let mut ids: Vec<_> = accelerators.iter().map(|one| one.registry_id).collect();
    ids.sort_unstable();
    ids.dedup();
    prop_assert_eq!(ids.len(), accelerators.len(), "{:?}", text);
    for one in &accelerators {
        let number = text.split("\"In use system memory\"=").skip(1).any(|rest| {
            let digits = rest.split([',', '}', '\n']).next().unwrap_or_default();
            digits.parse() == Ok(one.in_use_bytes)
        });
        prop_assert!(number, "{} in {text:?}", one.in_use_bytes);
    }
    prop_assert!(
        accelerators.iter().all(|one| one.in_use_bytes <= accelerator::in_use_bytes(&accelerators))
    );
    Ok(Ok(()))
}

fn memory(text: &str) -> Checked {
    let memory = taken!(vm_stat::parse(text));
    let page = memory.page_size_bytes;
    let pages = |bytes: u64| bytes / page;
    let compressor = memory.compressor_bytes.map_or(String::new(), |bytes| {
        format!("Pages occupied by compressor: {}.\n", pages(bytes))
    });
    let again = format!(
        "Mach Virtual Memory Statistics: (page size of {page} bytes)\n\
         Pages free: {}.\nPages wired down: {}.\n{compressor}",
        pages(memory.free_bytes),
        pages(memory.wired_bytes),
    );
    prop_assert_eq!(vm_stat::parse(&again), Ok(memory), "{:?}", text);
    Ok(Ok(()))
}

fn job(text: &str) -> Checked {
    let job = taken!(launchctl::parse(text));
    let says = |key: &str, value: &str| {
        let wanted = format!("\t{key} = {value}");
        text.lines().any(|line| line.trim_end() == wanted.trim_end())
    };
    let running = job.state == launchctl::State::Running;
    prop_assert_eq!(running, says("state", "running"), "{:?}", text);
    for (key, number) in
        [("pid", job.pid.map(u64::from)), ("runs", job.runs), ("exit timeout", job.exit_timeout_s)]
    {
        let start = format!("\t{key} = ");
        let said = |number: u64| {
            let values = text.lines().filter_map(|line| line.strip_prefix(&start));
            values.map(|value| value.trim_end().parse()).any(|value| value == Ok(number))
        };
        prop_assert!(number.is_none_or(said), "{key} in {text:?}");
    }
    if job.was_jetsammed() {
        prop_assert!(says("last exit reason", job.last_exit_reason.as_deref().unwrap_or_default()));
    }
    Ok(Ok(()))
}
