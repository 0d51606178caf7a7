//! The Thunderbolt link of a Mac, read from recorded answers: which interface it is, who is at the
//! other end, and whether it can carry RDMA.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use tandem_host::mac::{
    Unparsed,
    hardware_ports::{self, device_of},
    ifconfig::{self, Interface},
    network_setup,
    rdma::{self, PortState},
    thunderbolt,
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
fn a_hardware_port_is_found_by_its_name_wherever_its_number_went() {
    let rows = [
        (fixture!("networksetup/hardware_ports"), "Thunderbolt 2", Some("en3")),
        (fixture!("networksetup/hardware_ports"), "Thunderbolt 4", Some("en5")),
        (fixture!("networksetup/hardware_ports"), "Thunderbolt 5", None),
        (fixture!("networksetup/hardware_ports"), "Thunderbolt Bridge", Some("bridge0")),
        (fixture!("networksetup/hardware_ports_renumbered"), "Thunderbolt 2", Some("en6")),
    ];
    for (text, name, wanted) in rows {
        let ports = hardware_ports::parse(text).unwrap();
        assert_eq!(device_of(&ports, name), wanted, "{name}");
    }
    assert_eq!(hardware_ports::parse(fixture!("networksetup/hardware_ports")).unwrap().len(), 8);
}

#[test]
fn hardware_ports_of_another_form_are_refused() {
    let rows = [
        ("nothing", ""),
        ("no ports", "VLAN Configurations\n===================\n"),
        ("no device", "Hardware Port: Wi-Fi\n"),
        ("no device of the first", "Hardware Port: Wi-Fi\nHardware Port: Ethernet\nDevice: en0\n"),
        ("no port", "Device: en0\n"),
        ("an address first", "Ethernet Address: 02:00:5e:00:53:00\n"),
        ("an address before the port", "Ethernet Address: a\nHardware Port: b\nDevice: c\n"),
        ("a complaint", "** Error: The parameters were not valid.\n"),
    ];
    for (name, text) in rows {
        assert!(matches!(hardware_ports::parse(text), Err(Unparsed::Form { .. })), "{name}");
    }
}

fn ports(report: &str, hardware: &str) -> Vec<thunderbolt::Port> {
    let hardware = hardware_ports::parse(hardware).unwrap();
    thunderbolt::ports(&thunderbolt::parse(report).unwrap(), &hardware)
}

#[test]
fn a_cable_is_known_when_both_macs_name_the_other_end() {
    let here = fixture!("networksetup/hardware_ports");
    let there = fixture!("networksetup/hardware_ports_renumbered");
    let mine = ports(fixture!("system_profiler/linked"), here);
    let theirs = ports(fixture!("system_profiler/linked_peer"), there);

    let links = thunderbolt::links(&mine, &theirs);
    assert_eq!(links.len(), 1);
    assert_eq!(links[0].mine.rdma_device, "rdma_en5");
    assert_eq!(links[0].theirs.rdma_device, "rdma_en6");
    assert_eq!((links[0].mine.receptacle, links[0].theirs.receptacle), (4, 2));
    assert_eq!(links[0].theirs.interface, "en6");

    let unplugged = ports(fixture!("system_profiler/unlinked"), here);
    assert_eq!(unplugged.len(), 4);
    assert!(thunderbolt::links(&unplugged, &theirs).is_empty(), "they see us, we don't see them");
    assert!(thunderbolt::links(&mine, &mine).is_empty(), "a Mac is not its own peer");

    let elsewhere = fixture!("system_profiler/linked_peer").replace("AAAAAAA4", "CCCCCCC4");
    let theirs = ports(&elsewhere, there);
    assert!(thunderbolt::links(&mine, &theirs).is_empty(), "we see them, they see another");

    let upper = fixture!("system_profiler/linked_peer").replace("AAAAAAA4", "aaaaaaa4");
    assert_eq!(thunderbolt::links(&mine, &ports(&upper, there)).len(), 1, "case does not matter");
}

#[test]
fn a_peer_offers_rdma_by_the_service_it_announces() {
    let rows = [
        ("garbled key", fixture!("system_profiler/linked"), Some(true)),
        ("key as text", fixture!("system_profiler/linked_rdma_named"), Some(true)),
        ("switched off there", fixture!("system_profiler/linked_peer"), Some(false)),
        ("nobody", fixture!("system_profiler/unlinked"), None),
        ("a dock", fixture!("system_profiler/dock"), None),
    ];
    for (name, report, wanted) in rows {
        let buses = thunderbolt::parse(report).unwrap();
        let mut peers = buses.iter().flat_map(|bus| &bus.peers);
        assert_eq!(peers.next().map(|peer| peer.offers_rdma), wanted, "{name}");
        assert_eq!(peers.next(), None, "{name}");
    }
}

#[test]
fn a_socket_says_what_is_in_it() {
    let buses = thunderbolt::parse(fixture!("system_profiler/linked")).unwrap();
    let sockets: Vec<_> = buses.iter().filter_map(|bus| bus.receptacle.as_ref()).collect();
    let seen: Vec<_> = sockets.iter().map(|s| (s.id, s.connected, s.speed.as_str())).collect();
    let wanted = [
        (4, true, "80 Gb/s"),
        (3, true, "80 Gb/s"),
        (2, false, "Up to 120 Gb/s"),
        (1, false, "Up to 120 Gb/s"),
    ];
    assert_eq!(seen, wanted);
    assert_eq!(thunderbolt::parse(fixture!("system_profiler/none")), Ok(vec![]));
}

#[test]
fn thunderbolt_reports_of_another_form_are_refused() {
    let linked = fixture!("system_profiler/linked");
    let rows = [
        ("nothing", String::new()),
        ("another report", "{\"SPUSBDataType\": []}".into()),
        ("cut", linked[..linked.len() / 2].into()),
        ("a socket without a number", linked.replace("key\" : \"4\"", "key\" : \"four\"")),
        ("a new status", linked.replace("_no_devices_connected", "_asleep")),
        (
            "too many buses",
            format!("{{\"SPThunderboltDataType\":[{}]}}", [r#"{"_name":"a"}"#; 65].join(",")),
        ),
        ("too deep", format!("{{\"SPThunderboltDataType\":{}", "[".repeat(1000))),
    ];
    for (name, text) in rows {
        assert!(matches!(thunderbolt::parse(&text), Err(Unparsed::Form { .. })), "{name}");
    }
    let size = thunderbolt::REPORT_BYTES_MAX + 1;
    assert!(matches!(thunderbolt::parse(&" ".repeat(size)), Err(Unparsed::TooLong { .. })));
}

#[test]
fn the_rdma_switch_is_on_off_or_not_known() {
    let rows = [
        (fixture!("rdma_ctl/enabled"), TRUE),
        (fixture!("rdma_ctl/disabled"), FALSE),
        (fixture!("rdma_ctl/missing"), None),
        (fixture!("rdma_ctl/not_in_recovery"), None),
        ("not enabled\n", None),
        ("", None),
    ];
    for (text, wanted) in rows {
        assert_eq!(rdma::parse_status(text).ok().map(|s| s.rdma_enabled()), wanted, "{text:?}");
    }
}

#[test]
fn rdma_devices_are_listed_or_there_are_none() {
    let six = rdma::parse_devices(fixture!("ibv_devices/six")).unwrap();
    assert_eq!(six.len(), 6);
    assert_eq!((six[3].name.as_str(), six[3].node_guid), ("rdma_en5", 0xd3b5_e9ab_23cf_ac05));
    assert_eq!(rdma::parse_devices(fixture!("ibv_devices/none")), Ok(vec![]));

    let six = fixture!("ibv_devices/six");
    let rows = [
        ("nothing", String::new()),
        ("the heading alone", "device node GUID\n".into()),
        ("no rule", six.replace('-', "")),
        ("a short GUID", six.replace("d3b5e9", "d3b5e")),
        ("a GUID with a sign", six.replace("d3b5e9ab", "+3b5e9ab")),
        ("no GUID", six.replace("d3b5e9ab23cfac05", "")),
    ];
    for (name, text) in rows {
        assert!(matches!(rdma::parse_devices(&text), Err(Unparsed::Form { .. })), "{name}");
    }
}

#[test]
fn rdma_is_active_only_on_the_links_own_device() {
    let rows = [
        ("active", fixture!("ibv_devinfo/active"), "en5", true),
        ("down", fixture!("ibv_devinfo/down"), "en5", false),
        ("another's", fixture!("ibv_devinfo/another_active"), "en5", false),
        ("its own among others", fixture!("ibv_devinfo/another_active"), "en4", true),
        ("not there", fixture!("ibv_devinfo/active"), "en6", false),
        ("with addresses", fixture!("ibv_devinfo/verbose"), "en5", true),
    ];
    for (name, text, interface, wanted) in rows {
        let devices = rdma::parse_devinfo(text).unwrap();
        assert_eq!(rdma::rdma_active(&devices, interface), Found::Flag(wanted), "{name}");
    }
    let second = fixture!("ibv_devinfo/active").replace("port:\t1", "port:\t2");
    let devices = rdma::parse_devinfo(&second).unwrap();
    assert_eq!(rdma::rdma_active(&devices, "en5"), Found::Flag(false), "not the port MLX opens");
}

#[test]
fn the_address_that_mlx_needs_is_the_ipv4_mapped_one() {
    let devices = rdma::parse_devinfo(fixture!("ibv_devinfo/verbose")).unwrap();
    let seen: Vec<_> = devices
        .iter()
        .flat_map(|device| device.ports.iter().map(|port| (port.state, port.ipv4())))
        .collect();
    let wanted =
        [(PortState::Down, None), (PortState::Active, Some(Ipv4Addr::new(169, 254, 0, 1)))];
    assert_eq!(seen, wanted);
}

#[test]
fn rdma_ports_of_another_form_are_refused() {
    let active = fixture!("ibv_devinfo/active");
    let verbose = fixture!("ibv_devinfo/verbose");
    let rows = [
        ("nothing", String::new()),
        ("a complaint", "No IB devices found\n".into()),
        ("a state whose number is another's", active.replace("PORT_ACTIVE (4)", "PORT_ACTIVE (1)")),
        ("a new state", active.replace("PORT_ACTIVE (4)", "PORT_SLEEPS (6)")),
        ("no port", active.replace("\t\tport:\t1\n", "")),
        ("cut before the state", active.split("state").next().unwrap().into()),
        ("cut before the port", active.split("\t\tport").next().unwrap().into()),
        ("the first has no port", verbose.replacen("\t\tport:\t1\n", "", 1)),
        ("two ports, one state", active.replace("\t\tport:\t1\n", "\t\tport:\t1\n\t\tport:\t2\n")),
        ("no device", active.replace("hca_id", "hca")),
        ("a name is lost", verbose.replace("hca_id:\trdma_en5", "0hca_id:\trdma_en5")),
        ("a name is lost with its line", verbose.replace("hca_id:\trdma_en5\n", "")),
        ("a device not at the margin", verbose.replace("hca_id:\trdma_en5", " hca_id:\trdma_en5")),
        ("no count of ports", active.replace("phys_port_cnt", "phys_port")),
        (
            "no count of the second device's ports",
            verbose
                .rsplitn(2, "\tphys_port_cnt:\t\t\t1\n")
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect(),
        ),
        ("another count of ports", active.replace("phys_port_cnt:\t\t\t1", "phys_port_cnt:\t2")),
        ("no name", active.replace("rdma_en5", "")),
        ("an address that is none", verbose.replace("::ffff:169.254.0.1", "::ffff:169.254.0.256")),
    ];
    for (name, text) in rows {
        assert!(matches!(rdma::parse_devinfo(&text), Err(Unparsed::Form { .. })), "{name}");
    }
}

#[test]
fn the_mtu_in_use_counts_and_not_the_stored_one() {
    let rows = [
        (fixture!("networksetup/mtu_1500"), Some((1500, 1500))),
        (fixture!("networksetup/mtu_not_stored"), Some((9000, 1500))),
        (fixture!("networksetup/mtu_no_port"), None),
        ("Active MTU: 9000\n", None),
        ("Active MTU: -1 (Current Setting: 9000)\n", None),
    ];
    for (text, wanted) in rows {
        let mtu = network_setup::parse(text).ok();
        assert_eq!(mtu.map(|m| (m.active_bytes, m.setting_bytes)), wanted, "{text:?}");
        let found = wanted.map(|(active, _)| Found::Count(active));
        assert_eq!(mtu.map(|m| m.link_mtu()), found, "{text:?}");
    }
}

fn named<'a>(interfaces: &'a [Interface], name: &str) -> &'a Interface {
    interfaces.iter().find(|interface| interface.name == name).unwrap()
}

#[test]
fn an_interface_tells_its_mtu_addresses_and_state() {
    let none = Found::Names(vec![]);
    let one = |address: &str| Found::Names(vec![address.into()]);
    let serving = fixture!("ifconfig/all_serving");
    let bridged = fixture!("ifconfig/all_bridged");
    let rows = [
        (serving, "en5", 9000, one("169.254.0.1"), Some("active"), true),
        (fixture!("ifconfig/en5_serving"), "en5", 9000, one("169.254.0.1"), Some("active"), true),
        (bridged, "en5", 1500, none.clone(), Some("active"), true),
        (bridged, "en4", 1500, none.clone(), Some("inactive"), true),
        (bridged, "stf0", 1280, none.clone(), None, false),
        ("en7: flags=40<RUNNING> mtu 1500\n", "en7", 1500, none.clone(), None, false),
        ("en7: flags=1<UP> mtu 1500 index 12\n", "en7", 1500, none.clone(), None, false),
        (bridged, "utun4", 1280, one("198.51.100.2"), None, true),
        (fixture!("ifconfig/bridge0_empty"), "bridge0", 1500, none, Some("inactive"), true),
    ];
    for (text, name, mtu, addresses, status, running) in rows {
        let interfaces = ifconfig::parse(text).unwrap();
        let interface = named(&interfaces, name);
        assert_eq!(interface.link_mtu(), Found::Count(mtu), "{name}");
        assert_eq!(interface.link_address(), addresses, "{name}");
        assert_eq!(interface.status.as_deref(), status, "{name}");
        assert_eq!(interface.is_running(), running, "{name}");
    }
}

#[test]
fn a_bridge_lists_its_members() {
    let rows = [
        (fixture!("ifconfig/bridge0_members"), vec!["en4", "en5"]),
        (fixture!("ifconfig/bridge0_empty"), vec![]),
    ];
    for (text, wanted) in rows {
        assert_eq!(named(&ifconfig::parse(text).unwrap(), "bridge0").members, wanted);
    }
}

#[test]
fn a_port_is_unbridged_only_if_no_bridge_of_all_has_it() {
    let serving = fixture!("ifconfig/all_serving");
    let rows = [
        ("in none", serving.to_owned(), "en5", TRUE),
        ("in bridge0", fixture!("ifconfig/all_bridged").to_owned(), "en5", FALSE),
        ("in another bridge", serving.replace("bridge0", "bridge1"), "en5", TRUE),
        (
            "in a second bridge",
            format!("{serving}bridge1: flags=8863<UP> mtu 9000\n\tmember: en5 flags=3<LEARNING>\n"),
            "en5",
            FALSE,
        ),
        ("a member with a longer name", serving.replace("en5:", "en50:"), "en5", None),
        ("not all interfaces", fixture!("ifconfig/en5_serving").to_owned(), "en5", None),
        ("the bridge alone", fixture!("ifconfig/bridge0_empty").to_owned(), "en5", None),
        ("the port is gone", serving.to_owned(), "en9", None),
    ];
    for (name, text, interface, wanted) in rows {
        let interfaces = ifconfig::parse(&text).unwrap();
        assert_eq!(ifconfig::link_unbridged(&interfaces, interface).ok(), wanted, "{name}");
    }
}

#[test]
fn interfaces_of_another_form_are_refused() {
    let en5 = fixture!("ifconfig/en5_serving");
    let rows = [
        ("nothing", String::new()),
        ("not there", fixture!("ifconfig/missing").into()),
        ("no MTU", en5.replace(" mtu 9000", "")),
        ("an MTU that is none", en5.replace("9000", "many")),
        ("flags that are none", en5.replace("8863", "88g3")),
        ("an address that is none", en5.replace("inet 169.254.0.1", "inet 169.254.0")),
        ("an address that is cut", en5.split("169").next().unwrap().into()),
        ("a status that is cut", format!("{}\tstatus:", en5.split("\tstatus").next().unwrap())),
        ("an interface not at the margin", format!("{en5} {en5}")),
        ("indented first", en5.lines().skip(1).collect::<Vec<_>>().join("\n")),
    ];
    for (name, text) in rows {
        assert!(matches!(ifconfig::parse(&text), Err(Unparsed::Form { .. })), "{name}");
    }
}
