//! What is told: what blocks, what is a fault, what the status shows.

use super::*;

#[test]
fn what_is_not_known_blocks_like_what_is_broken_unless_there_is_no_such_thing() {
    let known = "link_mtu is not known: ";
    let rows: [(Option<Unknown>, Option<&str>); 5] = [
        (Some(Unknown::NotOnThisPlatform), None),
        (Some(Unknown::NotConfigured("host.link".into())), None),
        (Some(Unknown::Failed("no such device".into())), Some("reading it failed: no such device")),
        (
            Some(Unknown::Hung("ioctl".into())),
            Some("its probe did not end (ioctl), and runs again only in a new supervisor"),
        ),
        (None, Some("it was not read yet, or too long ago")),
    ];
    for (unknown, reason) in rows {
        let mut story = Story::new();
        story.seen.invariants.remove(&LinkMtu);
        if let Some(unknown) = unknown.clone() {
            story.lose(LinkMtu, unknown);
        }
        let expected: Vec<String> = reason.iter().map(|text| format!("{known}{text}")).collect();
        assert_eq!(story.blocked(), expected);
        assert_eq!(story.turn(), [], "nobody knows what to mend");
        assert_eq!(story.faults(), []);
        story.pass(10_000);
        story.turn();
        assert_eq!(story.faults(), []);
        story.pass(1);
        story.turn();
        let fault = reason.map(|_| (Kind::Broken(LinkMtu), Rung::Hold));
        assert_eq!(story.faults(), Vec::from_iter(fault), "{unknown:?}");
        assert!(story.state.drifts.is_empty(), "unknown is no drift");
        let row = story.row(LinkMtu);
        assert_eq!((row.holds, row.found, row.source), (None, None, None));
        assert_eq!(row.unknown, Some(unknown.unwrap_or(Unknown::Unread)));
    }
}

#[test]
fn a_reading_that_grows_old_is_not_known_any_more() {
    let mut story = Story::new();
    assert_eq!(story.blocked(), [""; 0]);
    story.pass(3 * 5_000 + 5_000);
    assert_eq!(story.blocked(), [""; 0]);
    story.pass(1);
    // The seven that block and are read often.
    let expected =
        [LinkMtu, LinkAddress, LinkUnbridged, WiredLimit, DiskSpace, OpenFiles, OsVersion].map(
            |i| format!("{} is not known: it was not read yet, or too long ago", i.row().name),
        );
    assert_eq!(story.blocked(), expected);
    assert_eq!(story.row(LinkMtu).unknown, Some(Unknown::Unread));
    assert_eq!(story.row(SleepOff).holds, Some(true), "it is read rarely");
}

#[test]
fn the_rung_of_a_fault_is_the_smallest_that_may_mend_it() {
    let rows = [
        (LinkMtu, Count(1_500), Rung::Reassert),
        (SleepOff, Flag(false), Rung::Reassert),
        (RdmaEnabled, Flag(false), Rung::Hold),
        (DiskSpace, Count(0), Rung::Hold),
        (FirewallOpen, Flag(false), Rung::None),
        (UnattendedBoot, Flag(false), Rung::None),
        (LinkUnbridged, Count(3), Rung::Hold),
        (PowerNapOff, Count(3), Rung::None),
    ];
    for (invariant, found, rung) in rows {
        let mut story = Story::new();
        story.find(invariant, found);
        story.turn();
        story.pass(10_001);
        story.turn();
        assert_eq!(story.faults(), [(Kind::Broken(invariant), rung)]);
    }
}

#[test]
fn what_is_only_observed_is_shown_and_nothing_else() {
    let mut story = Story::new();
    story.setup.invariants = Invariants(Invariant::ALL.map(|i| (i, Mode::Observe)).into());
    story.setup.host.flap_max = 2;
    for _ in 0..10 {
        for found in [Count(1_500), Count(9_000)] {
            story.find(LinkMtu, found);
            story.lose(OpenFiles, Unknown::Failed("denied".into()));
            assert_eq!(story.turn(), []);
            assert_eq!((story.faults(), story.blocked()), (vec![], vec![]));
            story.pass(2_000);
        }
    }
    let row = story.row(LinkMtu);
    assert_eq!((row.mode, row.holds, row.drifts), (Mode::Observe, Some(true), 3));
}
