//! Matching ports: one row a cabling.

use super::*;
use crate::{
    ThunderboltPort,
    invariant::tests::observation,
    pair::{NodePlace, PeerSeen},
};

const NOW: Moment = Moment { boot_ms: 1_000_000, wall_ms: 0 };

/// An interface, its domain, what it sees, and whether it has an RDMA device.
type Row = (&'static str, &'static str, Option<&'static str>, bool);

fn ports(rows: &[Row]) -> Vec<ThunderboltPort> {
    let port = |(interface, domain, sees, has_device): &Row| ThunderboltPort {
        interface: (*interface).to_owned(),
        rdma_device: has_device.then(|| format!("rdma_{interface}")),
        domain_uuid: (*domain).to_owned(),
        peer_domain_uuid: sees.map(str::to_owned),
    };
    rows.iter().map(port).collect()
}

fn setup(count: usize) -> Setup {
    let names = ["a", "b", "c"];
    let place = |(rank, name): (u32, &&str)| NodePlace { name: (**name).into(), ranks: vec![rank] };
    Setup {
        node: "a".into(),
        nodes: (0..).zip(&names[..count]).map(place).collect(),
        uses_fabric: true,
        ..Setup::default()
    }
}

/// What node a sees: its own ports, and the others' in their reports.
fn seen(setup: &Setup, own: &[Row], others: &[&[Row]]) -> Observation {
    let mut seen = Observation { thunderbolt: Some(ports(own)), ..observation() };
    for (place, rows) in setup.nodes.iter().skip(1).zip(others) {
        let of = Setup { node: place.name.clone(), ..setup.clone() };
        let theirs = Observation { thunderbolt: Some(ports(rows)), ..observation() };
        let report = NodeReport::of(&of, &State::new("boot"), &theirs, NOW);
        seen.peers.push(PeerSeen {
            node: place.name.clone(),
            is_paired: true,
            paths: Vec::new(),
            report: Some((report, NOW.boot_ms)),
            differences: Vec::new(),
        });
    }
    seen
}

fn names(devices: &Devices) -> Vec<Vec<&str>> {
    let name = |device: &Option<String>| match device {
        Some(name) => name.clone().leak() as &str,
        None => "-",
    };
    devices.iter().map(|row| row.iter().map(name).collect()).collect()
}

#[test]
fn a_cable_is_one_that_both_ends_see() {
    let setup = setup(2);
    let rows: [(&str, &[Row], &[Row], &str); 9] = [
        (
            "the two ends have different numbers, and uuids differ in case",
            &[("en4", "A1", None, true), ("en5", "A2", Some("b1"), true)],
            &[("en3", "B1", Some("a2"), true)],
            "[[\"-\", \"rdma_en5\"], [\"rdma_en3\", \"-\"]]",
        ),
        (
            "of two cables the first, where host.link names none",
            &[("en4", "A1", Some("B2"), true), ("en5", "A2", Some("B1"), true)],
            &[("en3", "B1", Some("A2"), true), ("en4", "B2", Some("A1"), true)],
            "[[\"-\", \"rdma_en4\"], [\"rdma_en4\", \"-\"]]",
        ),
        (
            "of two cables the one that has devices at both ends",
            &[("en4", "A1", Some("B2"), true), ("en5", "A2", Some("B1"), true)],
            &[("en3", "B1", Some("A2"), true), ("en4", "B2", Some("A1"), false)],
            "[[\"-\", \"rdma_en5\"], [\"rdma_en3\", \"-\"]]",
        ),
        (
            "no device at the far end",
            &[("en5", "A2", Some("B1"), true)],
            &[("en3", "B1", Some("A2"), false)],
            "no RDMA device of en3, the port of b that joins a and b",
        ),
        (
            "another machine is at the other end",
            &[("en5", "A2", Some("X9"), true)],
            &[("en3", "B1", None, true)],
            "no cable joins a and b: en5 of a sees domain X9, no port of b; no port of b sees another",
        ),
        (
            "only one side sees it: the cable was moved, and one report is older",
            &[("en5", "A2", Some("B1"), true)],
            &[("en3", "B1", Some("X9"), true)],
            "en5 of a sees the domain of en3 of b, which sees domain X9",
        ),
        (
            "the same from the other side",
            &[("en5", "A2", None, true)],
            &[("en3", "B1", Some("A2"), true)],
            "en3 of b sees the domain of en5 of a, which sees none",
        ),
        (
            "a cable joins two ports of one machine",
            &[("en4", "A1", Some("A2"), true), ("en5", "A2", Some("A1"), true)],
            &[("en3", "B1", None, true)],
            "no cable joins a and b: en4 of a sees domain A2 and en5 of a sees domain A1",
        ),
        (
            "empty names join nothing",
            &[("en5", "", Some(""), true)],
            &[("en3", "", Some(""), true)],
            "no cable joins a and b",
        ),
    ];
    for (story, own, other, expected) in rows {
        let found = match Fabric::of(&setup, &seen(&setup, own, &[other]), NOW) {
            Fabric::Matched { devices } => format!("{:?}", names(&devices)),
            Fabric::Unknown(why) => format!("unknown: {why}"),
            Fabric::Mismatch(why) => why,
        };
        assert!(found.contains(expected), "{story}: {found}");
    }
}

#[test]
fn three_nodes_need_a_cable_between_every_two() {
    let setup = setup(3);
    let own: &[Row] = &[("en4", "A1", Some("B1"), true), ("en5", "A2", Some("C1"), true)];
    let b: &[Row] = &[("en4", "B1", Some("A1"), true), ("en5", "B2", Some("C2"), true)];
    let c: &[Row] = &[("en6", "C1", Some("A2"), true), ("en7", "C2", Some("B2"), true)];
    let Fabric::Matched { devices } = Fabric::of(&setup, &seen(&setup, own, &[b, c]), NOW) else {
        panic!("not matched")
    };
    let expected = [
        ["-", "rdma_en4", "rdma_en5"],
        ["rdma_en4", "-", "rdma_en5"],
        ["rdma_en6", "rdma_en7", "-"],
    ];
    assert_eq!(names(&devices), expected);
    let apart: &[Row] = &[("en6", "C1", Some("A2"), true)];
    let found = Fabric::of(&setup, &seen(&setup, own, &[b, apart]), NOW);
    let Fabric::Mismatch(why) = found else { panic!("{found:?}") };
    assert!(why.contains("no cable joins b and c"), "{why}");
}

#[test]
fn what_is_not_known_is_not_matched_and_says_whose_it_is() {
    let setup = setup(2);
    let own: &[Row] = &[("en5", "A2", Some("B1"), true)];
    let other: &[Row] = &[("en3", "B1", Some("A2"), true)];
    let unknown = |seen: &Observation| match Fabric::of(&setup, seen, NOW) {
        Fabric::Unknown(why) => why,
        known => panic!("{known:?}"),
    };
    let mut unread = seen(&setup, own, &[other]);
    unread.thunderbolt = None;
    assert_eq!(unknown(&unread), "the Thunderbolt ports of a are not read");
    let mut untold = seen(&setup, own, &[other]);
    untold.peers[0].report.as_mut().unwrap().0.thunderbolt = None;
    assert_eq!(unknown(&untold), "the Thunderbolt ports of b are not read");
    let mut silent = seen(&setup, own, &[other]);
    silent.peers[0].report.as_mut().unwrap().1 = 0;
    assert_eq!(unknown(&silent), "b is not heard");
    silent.peers.clear();
    assert_eq!(unknown(&silent), "b is not heard");
}

#[test]
fn host_link_is_the_port_of_the_cable_or_the_mismatch_is_named() {
    let mut setup = setup(2);
    let own: &[Row] = &[("en4", "A1", Some("B2"), true), ("en5", "A2", Some("B1"), true)];
    let other: &[Row] = &[("en3", "B1", Some("A2"), true), ("en4", "B2", Some("A1"), true)];
    for (link, expected) in [
        ("en5", "[[\"-\", \"rdma_en5\"], [\"rdma_en3\", \"-\"]]"),
        ("en4", "[[\"-\", \"rdma_en4\"], [\"rdma_en4\", \"-\"]]"),
        ("en1", "host.link of a is en1, but its cable is at en4; set host.link to that port"),
    ] {
        setup.host.link = link.into();
        let found = match Fabric::of(&setup, &seen(&setup, own, &[other]), NOW) {
            Fabric::Matched { devices } => format!("{:?}", names(&devices)),
            Fabric::Unknown(why) | Fabric::Mismatch(why) => why,
        };
        assert_eq!(found, expected, "{link}");
    }
}

#[test]
fn a_follower_opens_no_device_that_it_does_not_see_itself() {
    let mut setup = setup(2);
    setup.nodes.reverse();
    let own: &[Row] = &[("en5", "A2", Some("B1"), true)];
    let other: &[Row] = &[("en3", "B1", Some("A2"), true)];
    // The leader comes first: row 0 is b's, row 1 is this node's.
    let place = |seen: &mut Observation| seen.peers[0].node = "b".into();
    let mut sight = Observation { thunderbolt: Some(ports(own)), ..observation() };
    let of = Setup { node: "b".into(), ..setup.clone() };
    let theirs = Observation { thunderbolt: Some(ports(other)), ..observation() };
    sight.peers.push(PeerSeen {
        node: String::new(),
        is_paired: true,
        paths: Vec::new(),
        report: Some((NodeReport::of(&of, &State::new("boot"), &theirs, NOW), NOW.boot_ms)),
        differences: Vec::new(),
    });
    place(&mut sight);
    for invariant in crate::invariant::Invariant::ALL {
        let sighting =
            crate::invariant::Sighting::Unknown(crate::invariant::Unknown::NotOnThisPlatform);
        sight.invariants.insert(invariant, sighting);
    }
    let state = State::new("boot");
    let device = |name: &str| Some(name.to_owned());
    let told = |own: &str, size: usize| {
        let mut devices = vec![vec![None, device("rdma_en3")], vec![device(own), None]];
        devices.resize(size, Vec::new());
        Carrier::Jaccl { devices }
    };
    let rows = [
        (told("rdma_en5", 2), true),
        (told("rdma_en4", 2), false),
        (told("rdma_en5", 3), false),
        (Carrier::Jaccl { devices: Vec::new() }, false),
        (Carrier::default(), true),
    ];
    for (carrier, expected) in rows {
        assert_eq!(agrees(&setup, &state, &sight, NOW, &carrier), expected, "{carrier:?}");
    }
    setup.supervise.fabric_starts_max = 0;
    assert!(!agrees(&setup, &state, &sight, NOW, &told("rdma_en5", 2)), "its own starts are spent");
}
