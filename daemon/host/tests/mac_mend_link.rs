//! Mending the Thunderbolt port of a Mac: every call and command in order, what is left alone because
//! it is so already, and what a failure half-way says.

#![allow(clippy::unwrap_used)]

mod mac_world;

use mac_world::{Recorded, mac};
use tandem_host::{
    MendError,
    mac::{mend::mend, tools},
};
use tandem_policy::{Repair, invariant::Unknown};

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("fixtures/", $path, ".txt"))
    };
}

const SETUP: &str = "/usr/sbin/networksetup";

/// The link-local address of the port's hardware address. It is stored on Macs: it may not change.
const ADDRESS: &str = "169.254.102.212";

fn mtu_repair() -> Repair {
    Repair::LinkMtu { link: "en5".into(), mtu_bytes: 9_000 }
}

fn stored(bytes: u32) -> String {
    format!("Active MTU: 9000 (Current Setting: {bytes})\n")
}

/// Fails with a message that has all of these parts, and none of the advice is missing.
fn fails(result: Result<(), MendError>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[test]
fn a_lost_mtu_is_set_now_and_stored_for_the_next_boot() {
    let get = format!("{SETUP} -getMTU en5");
    let set = format!("{SETUP} -setMTU en5 9000");
    let rows: [(&str, u32, &[u32], Vec<&str>); 4] = [
        ("lost", 1_500, &[1_500, 9_000], vec!["SIOCSIFMTU en5 9000", &get, &set, &get]),
        ("lost, stored", 1_500, &[9_000], vec!["SIOCSIFMTU en5 9000", &get]),
        ("not stored", 9_000, &[1_500, 9_000], vec![&get, &set, &get]),
        ("as wanted", 9_000, &[9_000], vec![&get]),
    ];
    for (name, now, settings, wanted) in rows {
        let mac =
            mac().with(|kernel| kernel.mtu_bytes = now).says(&tools::set_mtu("en5", 9_000), "");
        let mac = settings.iter().fold(mac, |mac, s| mac.says(&tools::mtu("en5"), &stored(*s)));
        mend(&mtu_repair(), &mac).unwrap();
        assert_eq!(mac.calls(), wanted, "{name}");
        mend(&mtu_repair(), &mac).unwrap();
        assert_eq!(mac.calls()[wanted.len()..], [get.as_str()], "{name}: again, nothing is set");
    }
}

#[test]
fn an_mtu_that_is_refused_says_where_it_stopped() {
    let lost = || mac().with(|kernel| kernel.mtu_bytes = 1_500);
    let absent = Repair::LinkMtu { link: "en9".into(), mtu_bytes: 9_000 };
    fails(mend(&absent, &lost()), &["there is no interface en9"]);
    let small = lost().with(|kernel| kernel.mtu_bytes_max = 1_500);
    fails(mend(&mtu_repair(), &small), &["en5 does not take an MTU of 9000 bytes"]);
    let user = lost().with(|kernel| kernel.is_root = false);
    fails(mend(&mtu_repair(), &user), &["MTU of en5 needs root"]);
    assert_eq!(user.calls().len(), 1, "no tool is run after it");

    let until_then = "the MTU is set until then";
    let next_boot = "storing the MTU of en5 for the next boot failed";
    let headless = lost().says(&tools::mtu("en5"), &stored(1_500)).ends(
        &tools::set_mtu("en5", 9_000),
        4,
        fixture!("network_services/refused"),
        "",
    );
    let parts = [next_boot, until_then, "ended with 4", "Unable to access", "-setMTU en5 9000"];
    fails(mend(&mtu_repair(), &headless), &parts);
    assert_eq!(headless.calls()[0], "SIOCSIFMTU en5 9000");
    let deaf =
        lost().says(&tools::mtu("en5"), &stored(1_500)).says(&tools::set_mtu("en5", 9_000), "");
    fails(
        mend(&mtu_repair(), &deaf),
        &["stored MTU of en5 was set to 9000 and is 1500", until_then],
    );
    let late = Unknown::Failed("it did not end within 5000 ms and was killed".into());
    let late = lost().answers(&tools::mtu("en5"), Err(late));
    fails(mend(&mtu_repair(), &late), &[next_boot, until_then, "was killed", "-getMTU en5"]);
    let gone = lost().says(&tools::mtu("en5"), fixture!("networksetup/mtu_no_port"));
    fails(mend(&mtu_repair(), &gone), &[next_boot, until_then, "not a recognized"]);
}

#[test]
fn a_port_without_an_address_gets_its_own_and_one_with_an_address_keeps_it() {
    let repair = Repair::LinkAddress { link: "en5".into() };
    let bare = mac().with(|kernel| kernel.addresses.clear());
    mend(&repair, &bare).unwrap();
    mend(&repair, &bare).unwrap();
    assert_eq!(bare.calls(), [format!("SIOCAIFADDR en5 {ADDRESS}/16")], "once");
    let chosen = mac();
    mend(&repair, &chosen).unwrap();
    assert_eq!(chosen.calls(), [""; 0]);

    let absent = Repair::LinkAddress { link: "en9".into() };
    fails(mend(&absent, &bare), &["there is no interface en9"]);
    let user = mac().with(|kernel| (kernel.addresses, kernel.is_root) = (vec![], false));
    fails(mend(&repair, &user), &["address of en5 needs root"]);
    let nameless = mac().with(|kernel| {
        kernel.addresses.clear();
        kernel.hardware_address = vec![0; 6];
    });
    fails(mend(&repair, &nameless), &["en5 has no hardware address"]);
}

const OWN: &str = "Tandem Thunderbolt 4";

fn unbridge() -> Repair {
    Repair::LinkUnbridged { link: "en5".into() }
}

fn bridged() -> Recorded {
    mac().with(|kernel| kernel.bridge = Some("bridge0".into()))
}

fn services(mac: Recorded, texts: &[&str]) -> Recorded {
    texts.iter().fold(mac, |mac, text| mac.says(&tools::services(), text))
}

fn fixed() -> String {
    fixture!("network_info/fixed").replace("169.254.100.7", ADDRESS)
}

/// A Mac on which a service can be made and given its address.
fn with_tools(mac: Recorded) -> Recorded {
    mac.says(&tools::hardware_ports(), fixture!("networksetup/hardware_ports"))
        .says(&tools::set_service(OWN, "Thunderbolt 4"), "")
        .says(&tools::service_info(OWN), fixture!("network_info/dhcp"))
        .says(&tools::service_info(OWN), &fixed())
        .says(&tools::set_address(OWN, ADDRESS, "255.255.0.0"), "")
}

#[test]
fn a_bridged_port_leaves_its_bridge_and_gets_a_service_of_its_own_behind_all_others() {
    let before = fixture!("network_services/bridged");
    let last = fixture!("network_services/own_last");
    let mac = with_tools(services(bridged(), &[before, last]));
    mend(&unbridge(), &mac).unwrap();
    let list = format!("{SETUP} -listnetworkserviceorder");
    let info = format!("{SETUP} -getinfo '{OWN}'");
    let wanted = [
        "BRDGDEL bridge0 en5".to_owned(),
        list.clone(),
        format!("{SETUP} -listallhardwareports"),
        format!("{SETUP} -createnetworkservice '{OWN}' 'Thunderbolt 4'"),
        list.clone(),
        info.clone(),
        format!("{SETUP} -setmanual '{OWN}' {ADDRESS} 255.255.0.0"),
        info.clone(),
        list.clone(),
    ];
    assert_eq!(mac.calls(), wanted);
    mend(&unbridge(), &mac).unwrap();
    assert_eq!(mac.calls()[wanted.len()..], [list.clone(), info, list], "again, nothing is set");
}

#[test]
fn a_service_of_ours_that_comes_first_is_put_last_and_the_others_keep_their_order() {
    let first = fixture!("network_services/own_first");
    let last = fixture!("network_services/own_last");
    let names = ["Ethernet", "Wi-Fi", "Office VPN", OWN];
    let mac = services(mac(), &[first, first, last])
        .says(&tools::service_info(OWN), &fixed())
        .says(&tools::set_service_order(&names), "");
    mend(&unbridge(), &mac).unwrap();
    let order = format!("{SETUP} -ordernetworkservices Ethernet Wi-Fi 'Office VPN' '{OWN}'");
    assert_eq!(mac.sets(), [order]);
}

#[test]
fn a_service_that_somebody_made_is_left_as_it_is() {
    let mac = services(bridged(), &[fixture!("network_services/of_an_admin")]);
    mend(&unbridge(), &mac).unwrap();
    assert_eq!(mac.sets(), ["BRDGDEL bridge0 en5"]);
}

#[test]
fn a_service_of_the_same_name_for_another_interface_gets_a_sibling() {
    let other = fixture!("network_services/own_last").replace("Device: en5", "Device: en9");
    let sibling = "Tandem Thunderbolt 4 en5";
    let both = format!("{other}(5) {sibling}\n(Hardware Port: Thunderbolt 4, Device: en5)\n");
    let mac = services(mac(), &[&other, &both])
        .says(&tools::hardware_ports(), fixture!("networksetup/hardware_ports"))
        .says(&tools::set_service(sibling, "Thunderbolt 4"), "")
        .says(&tools::service_info(sibling), &fixed());
    mend(&unbridge(), &mac).unwrap();
    assert_eq!(mac.sets(), [format!("{SETUP} -createnetworkservice '{sibling}' 'Thunderbolt 4'")]);
}

#[test]
fn a_port_that_can_not_leave_its_bridge_says_so_before_any_tool_is_run() {
    let absent = Repair::LinkUnbridged { link: "en9".into() };
    fails(mend(&absent, &mac()), &["there is no interface en9"]);
    let user = bridged().with(|kernel| kernel.is_root = false);
    fails(mend(&unbridge(), &user), &["bridge of en5 needs root"]);
    let back = bridged().with(|kernel| kernel.is_rebridged = true);
    fails(mend(&unbridge(), &back), &["bridge of en5 was set to none and is bridge0"]);
    for mac in [user, back] {
        assert_eq!(mac.calls(), ["BRDGDEL bridge0 en5"]);
    }
}

#[test]
fn a_service_that_can_not_be_made_leaves_the_port_unbridged_and_says_the_step() {
    let before = fixture!("network_services/bridged");
    let hardware = fixture!("networksetup/hardware_ports");
    let done = "the port is in no bridge now, but may be put into one again";
    let own = "giving en5 a network service of its own failed";
    let refused = fixture!("network_services/refused");
    let ports = |text: &str| services(bridged(), &[before]).says(&tools::hardware_ports(), text);
    let create = tools::set_service(OWN, "Thunderbolt 4");
    let made = || services(bridged(), &[before, fixture!("network_services/own_last")]);
    let dhcp = |mac: Recorded| mac.says(&tools::service_info(OWN), fixture!("network_info/dhcp"));
    let set_address = tools::set_address(OWN, ADDRESS, "255.255.0.0");
    let fixing = "fixing the address of the network service `Tandem Thunderbolt 4` failed";
    let first = fixture!("network_services/own_first");
    let unsorted = || services(mac(), &[first]).says(&tools::service_info(OWN), &fixed());
    let order = tools::set_service_order(&["Ethernet", "Wi-Fi", "Office VPN", OWN]);
    let ordering = "ordering the network services failed";
    let rows: Vec<(&str, Recorded, Vec<&str>)> = vec![
        (
            "no list",
            bridged().ends(&tools::services(), 1, refused, ""),
            vec![own, "Unable to access"],
        ),
        (
            "not Thunderbolt",
            ports(&hardware.replace("Thunderbolt 4", "Ethernet 4")),
            vec![own, "en5 is no Thunderbolt port"],
        ),
        (
            "ambiguous",
            ports(&hardware.replace("Device: en4", "Device: en5")),
            vec![own, "as well as"],
        ),
        (
            "refused",
            ports(hardware).ends(&create, 4, refused, ""),
            vec![own, "ended with 4", "Unable"],
        ),
        (
            "late",
            ports(hardware).answers(&create, Err(Unknown::Failed("was killed".into()))),
            vec![own, "was killed", "-createnetworkservice"],
        ),
        (
            "no effect",
            ports(hardware).says(&create, ""),
            vec!["service of en5 was set to Tandem Thunderbolt 4 and is none"],
        ),
        (
            "no address",
            dhcp(with_made(made())).ends(&set_address, 4, "", "no"),
            vec![fixing, "-setmanual"],
        ),
        (
            "address without effect",
            dhcp(with_made(made())).says(&set_address, ""),
            vec![fixing, "no effect"],
        ),
        (
            "no order",
            unsorted().ends(&order, 4, "Wrong number of network services", ""),
            vec![ordering, "Wrong number"],
        ),
        ("order without effect", unsorted().says(&order, ""), vec![ordering, "no effect"]),
    ];
    for (name, mac, parts) in rows {
        let message = mend(&unbridge(), &mac).unwrap_err().to_string();
        for part in parts.into_iter().chain([done]) {
            assert!(message.contains(part), "{name}: {part:?} in {message}");
        }
    }
}

/// A Mac that lists its sockets and takes a new service.
fn with_made(mac: Recorded) -> Recorded {
    mac.says(&tools::hardware_ports(), fixture!("networksetup/hardware_ports"))
        .says(&tools::set_service(OWN, "Thunderbolt 4"), "")
}

#[test]
fn a_port_without_a_hardware_address_gets_no_service_that_would_use_dhcp() {
    let mac = bridged().with(|kernel| kernel.hardware_address.clear());
    let mac = services(mac, &[fixture!("network_services/bridged")])
        .says(&tools::hardware_ports(), fixture!("networksetup/hardware_ports"));
    fails(mend(&unbridge(), &mac), &["no hardware address"]);
    assert_eq!(mac.sets(), ["BRDGDEL bridge0 en5"]);
}
