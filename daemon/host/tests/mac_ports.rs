//! The Thunderbolt ports of a Mac: interface, RDMA device and peer of each, or an error that names
//! what is ambiguous.

#![allow(clippy::unwrap_used)]

mod mac_world;

use mac_world::{Recorded, mac};
use tandem_host::mac::{ports, tools};
use tandem_policy::{ThunderboltPort, invariant::Unknown};

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("fixtures/", $path, ".txt"))
    };
}

const HARDWARE: &str = fixture!("networksetup/hardware_ports");
const SIX: &str = fixture!("ibv_devices/six");
const LINKED: &str = fixture!("system_profiler/linked");

fn says(report: &str, hardware: &str, devices: &str) -> Recorded {
    mac()
        .says(&tools::thunderbolt_report(), report)
        .says(&tools::hardware_ports(), hardware)
        .says(&tools::rdma_devices(), devices)
}

fn port(interface: &str, rdma: bool, domain: &str, peer: Option<&str>) -> ThunderboltPort {
    ThunderboltPort {
        interface: interface.into(),
        rdma_device: rdma.then(|| format!("rdma_{interface}")),
        domain_uuid: domain.into(),
        peer_domain_uuid: peer.map(Into::into),
    }
}

const A1: &str = "AAAAAAA1-0000-4000-8000-000000000001";
const A2: &str = "AAAAAAA2-0000-4000-8000-000000000002";
const A3: &str = "AAAAAAA3-0000-4000-8000-000000000003";
const A4: &str = "AAAAAAA4-0000-4000-8000-000000000004";
const B2: &str = "BBBBBBB2-0000-4000-8000-000000000002";

#[test]
fn each_port_has_its_interface_its_device_and_its_peer() {
    let linked = |en: [&str; 4], rdma| {
        vec![
            port(en[3], rdma, A4, Some(B2)),
            port(en[2], rdma, A3, None),
            port(en[1], rdma, A2, None),
            port(en[0], rdma, A1, None),
        ]
    };
    let unlinked = |mut ports: Vec<ThunderboltPort>| {
        ports[0].peer_domain_uuid = None;
        ports
    };
    // Numbers of the same sockets after an adapter came: 5 and 3 change places, 4 becomes 7.
    let shuffled = HARDWARE
        .replace("Device: en5", "Device: enX")
        .replace("Device: en3", "Device: en5")
        .replace("Device: enX", "Device: en3")
        .replace("Device: en4", "Device: en7");
    let as_is = ["en2", "en3", "en4", "en5"];
    let no_device = SIX.replace("    rdma_en5        	d3b5e9ab23cfac05\n", "");
    let mut without = linked(as_is, true);
    without[0].rdma_device = None;
    let lower = LINKED.replace("BBBBBBB2", "bbbbbbb2").replace("AAAAAAA4", "aaaaaaa4");
    let rows = [
        ("linked", LINKED, HARDWARE, SIX, linked(as_is, true)),
        ("in lower case", &lower, HARDWARE, SIX, linked(as_is, true)),
        (
            "unlinked",
            fixture!("system_profiler/unlinked"),
            HARDWARE,
            SIX,
            unlinked(linked(as_is, true)),
        ),
        (
            "a dock is no peer",
            fixture!("system_profiler/dock"),
            HARDWARE,
            SIX,
            vec![port("en4", true, A3, None), port("en2", true, A1, None)],
        ),
        ("RDMA is off", LINKED, HARDWARE, fixture!("ibv_devices/none"), linked(as_is, false)),
        ("one device is not there", LINKED, HARDWARE, &no_device, without),
        ("renumbered", LINKED, &shuffled, SIX, linked(["en2", "en5", "en7", "en3"], true)),
        ("no Thunderbolt", fixture!("system_profiler/none"), HARDWARE, SIX, vec![]),
    ];
    for (name, report, hardware, devices, wanted) in rows {
        assert_eq!(ports::read(&says(report, hardware, devices)), Ok(wanted), "{name}");
    }
}

#[test]
fn the_two_ends_of_a_cable_name_each_other() {
    let there = fixture!("networksetup/hardware_ports_renumbered");
    let mine = ports::read(&says(LINKED, HARDWARE, SIX)).unwrap();
    let theirs = ports::read(&says(fixture!("system_profiler/linked_peer"), there, SIX)).unwrap();
    let of = |ports: &[ThunderboltPort], domain: &str| {
        ports.iter().find(|port| port.domain_uuid == domain).cloned().unwrap()
    };
    let (ours, others) = (of(&mine, A4), of(&theirs, B2));
    assert_eq!((&*ours.interface, &*others.interface), ("en5", "en6"));
    assert_eq!(ours.peer_domain_uuid.as_ref(), Some(&others.domain_uuid));
    assert_eq!(others.peer_domain_uuid.as_ref(), Some(&ours.domain_uuid));
}

#[test]
fn what_fits_in_two_ways_is_an_error_that_names_both() {
    let two_interfaces = HARDWARE.replace("Port: Thunderbolt 3", "Port: Thunderbolt 4");
    let two_ports = HARDWARE.replace("Device: en4", "Device: en5");
    let two_sockets =
        LINKED.replace(r#""receptacle_id_key" : "3""#, r#""receptacle_id_key" : "4""#);
    let two_domains = LINKED.replace("AAAAAAA3-0000-4000-8000-000000000003", A4);
    let device = "    rdma_en5        	d3b5e9ab23cfac05\n";
    let item = r#""vendor_id_key" : "0x2EB9","#;
    let own = LINKED.replace(item, &format!(r#"{item} "domain_uuid_key" : "{B2}","#));
    let peers = own.replacen(
        r#""_items" : ["#,
        r#""_items" : [ { "_name" : "Mac mini", "domain_uuid_key" : "CCCCCCC1-0" }, "#,
        1,
    );
    let rows = [
        (
            "interfaces",
            LINKED,
            &*two_interfaces,
            SIX.to_owned(),
            "`Thunderbolt 4` is en4 as well as en5",
        ),
        (
            "ports",
            LINKED,
            &two_ports,
            SIX.to_owned(),
            "en5 is the port `Thunderbolt 3` as well as `Thunderbolt 4`",
        ),
        ("sockets", &two_sockets, HARDWARE, SIX.to_owned(), "two Thunderbolt buses have socket 4"),
        ("domains", &two_domains, HARDWARE, SIX.to_owned(), A4),
        ("devices", LINKED, HARDWARE, format!("{SIX}{device}"), "rdma_en5 is listed twice"),
        (
            "peers",
            &peers,
            HARDWARE,
            SIX.to_owned(),
            "en5 leads to the domain CCCCCCC1-0 as well as to BBBBBBB2",
        ),
    ];
    for (name, report, hardware, devices, part) in rows {
        match ports::read(&says(report, hardware, &devices)) {
            Err(Unknown::Failed(reason)) => assert!(reason.contains(part), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_tool_that_fails_leaves_the_ports_unknown() {
    let tools = [tools::thunderbolt_report(), tools::hardware_ports(), tools::rdma_devices()];
    for (at, tool) in tools.iter().enumerate() {
        let late = Unknown::Hung("late".into());
        let mac = mac().answers(tool, Err(late.clone()));
        let mac = mac.says(&tools[0], LINKED).says(&tools[1], HARDWARE).says(&tools[2], SIX);
        assert_eq!(ports::read(&mac), Err(late), "{tool}");
        assert_eq!(mac.calls().len(), at + 1, "nothing is run after it");
    }
    let cut = mac().says(&tools[0], LINKED).ends(&tools[1], 1, HARDWARE, "lost");
    assert!(matches!(ports::read(&cut), Err(Unknown::Failed(why)) if why.contains("lost")));
}
