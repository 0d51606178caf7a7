//! Stories of drift, and properties of all of them.

use super::{
    super::{
        Found::{self, Count, Flag, Names},
        Invariant::*,
        Unknown,
    },
    *,
};
use crate::{Hold, settings::Invariants};

mod properties;
mod telling;

/// A host with everything to look after, and what happened on it so far.
struct Story {
    setup: Setup,
    state: State,
    seen: Observation,
    now: Moment,
}

impl Story {
    /// All invariants are enforced and hold.
    fn new() -> Self {
        let mut setup = Setup { uses_fabric: true, ..Setup::default() };
        setup.host.link = "en5".into();
        setup.host.wired_limit_mib = 1_000;
        setup.invariants = Invariants(Invariant::ALL.map(|i| (i, Mode::Enforce)).into());
        let now = Moment { boot_ms: 1_000_000, wall_ms: 50_000_000 };
        let seen = super::super::tests::observation();
        let mut story = Self { setup, state: State::new("boot"), seen, now };
        story.find_all_well();
        story
    }

    fn find(&mut self, invariant: Invariant, found: Found) {
        let at_ms = self.now.boot_ms;
        let sighting = Sighting::Known { found, source: "test".into(), at_ms };
        self.seen.invariants.insert(invariant, sighting);
    }

    fn find_well(&mut self, invariant: Invariant) {
        let found = match invariant {
            LinkMtu => Count(9_000),
            LinkAddress => Names(vec!["169.254.0.1".into()]),
            WiredLimit => Count(1_000),
            SpotlightOff => Names(Vec::new()),
            DiskSpace => Count(1 << 40),
            OpenFiles => Count(4_096),
            OsVersion => Found::Text("26.4".into()),
            _ => Flag(true),
        };
        self.find(invariant, found);
    }

    fn find_all_well(&mut self) {
        for invariant in Invariant::ALL {
            self.find_well(invariant);
        }
    }

    fn lose(&mut self, invariant: Invariant, unknown: Unknown) {
        self.seen.invariants.insert(invariant, Sighting::Unknown(unknown));
    }

    fn pass(&mut self, ms: u64) {
        self.now.boot_ms += ms;
        self.now.wall_ms += ms;
    }

    /// One turn; what it asks for.
    fn turn(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        step(&self.setup, &mut self.state, &self.seen, self.now, &mut actions);
        let deadline_ms = next_deadline_ms(&self.state);
        assert!(deadline_ms.is_none_or(|at_ms| at_ms > self.now.boot_ms), "no turn but the next");
        actions
    }

    fn faults(&self) -> Vec<(Kind, Rung)> {
        let conditions = conditions(&self.setup, &self.state, &self.seen, self.now);
        assert!(conditions.iter().all(|c| !c.evidence.is_empty() && !c.remedy.is_empty()));
        conditions.into_iter().map(|condition| (condition.kind, condition.rung)).collect()
    }

    fn blocked(&self) -> Vec<String> {
        blocking(&self.setup, &self.seen, self.now).into_iter().map(|(_, text)| text).collect()
    }

    fn drift(&self, invariant: Invariant) -> &Drift {
        &self.state.drifts[&invariant]
    }

    fn row(&self, invariant: Invariant) -> InvariantStatus {
        let rows = status(&self.setup, &self.state, &self.seen, self.now);
        assert_eq!(rows.len(), Invariant::ALL.len());
        rows.into_iter().find(|row| row.name == invariant).unwrap()
    }
}

fn mtu() -> Vec<Action> {
    vec![Action::Mend(Repair::LinkMtu { link: "en5".into(), mtu_bytes: 9_000 })]
}

fn sleep() -> Vec<Action> {
    vec![Action::Mend(Repair::Power { key: "sleep".into(), value: 0 })]
}

#[test]
fn a_link_gets_time_to_find_an_address_of_its_own() {
    let mut story = Story::new();
    story.find(LinkAddress, Names(Vec::new()));
    assert_eq!(story.turn(), []);
    story.pass(9_999);
    assert_eq!(story.turn(), []);
    story.pass(1);
    let given = vec![Action::Mend(Repair::LinkAddress { link: "en5".into() })];
    assert_eq!(story.turn(), given, "it found none");

    let mut story = Story::new();
    story.find(LinkAddress, Names(Vec::new()));
    assert_eq!(story.turn(), []);
    story.pass(5_000);
    story.find_well(LinkAddress);
    assert_eq!(story.turn(), [], "it found one");
    story.pass(60_000);
    assert_eq!(story.turn(), []);
}

#[test]
fn what_is_broken_at_first_sight_drifted_and_is_mended_at_once() {
    let mut story = Story::new();
    story.find(LinkMtu, Count(1_500));
    assert_eq!(story.turn(), mtu());
    let expected = Drift {
        since_ms: 1_000_000,
        since_wall_ms: 50_000_000,
        found: "1500".into(),
        wanted: "9000".into(),
        held_ms: None,
        count: 1,
        recent_ms: vec![1_000_000],
        paused_until_ms: None,
    };
    assert_eq!(story.state.drifts.into_iter().collect::<Vec<_>>(), [(LinkMtu, expected)]);
}

#[test]
fn what_drifts_is_mended_and_holds_again() {
    let mut story = Story::new();
    assert_eq!(story.turn(), []);
    assert!(story.state.drifts.is_empty(), "what never drifted is not remembered");

    story.pass(70_000);
    story.find_all_well();
    story.find(LinkMtu, Count(1_500));
    assert_eq!(story.turn(), mtu());
    assert_eq!(story.blocked(), ["link_mtu is 1500, must be 9000 (mended by the supervisor)"]);
    assert_eq!(story.faults(), [], "most is mended sooner than it is a fault");

    story.pass(20);
    story.find_well(LinkMtu);
    assert_eq!(story.turn(), []);
    assert_eq!(story.drift(LinkMtu).held_ms, Some(1_070_020));
    assert_eq!((story.blocked(), next_deadline_ms(&story.state)), (vec![], None));

    story.pass(100);
    story.find(LinkMtu, Count(1_280));
    assert_eq!(story.turn(), mtu(), "a new drift is mended at once");
    let drift = story.drift(LinkMtu);
    assert_eq!((drift.count, drift.held_ms, drift.found.as_str()), (2, None, "1280"));
    assert_eq!(drift.recent_ms, [1_070_000, 1_070_120]);
    let row = story.row(LinkMtu);
    assert_eq!((row.holds, row.drifts, row.last_drift_wall_ms), (Some(false), 2, Some(50_070_120)));
    assert_eq!((row.found, row.wanted.as_str()), (Some(Count(1_280)), "9000"));
}

#[test]
fn a_mend_without_effect_backs_off_and_becomes_a_fault() {
    let mut story = Story::new();
    let mut tried_ms = Vec::new();
    let mut rungs = Vec::new();
    for _ in 0..2_500 {
        story.find_all_well();
        story.find(LinkMtu, Count(1_500));
        if !story.turn().is_empty() {
            tried_ms.push(story.now.boot_ms - 1_000_000);
        }
        let fault = story.faults().first().map(|(kind, rung)| {
            assert_eq!(*kind, Kind::Broken(LinkMtu));
            *rung
        });
        if rungs.last().is_none_or(|(_, last)| *last != fault) {
            rungs.push((story.now.boot_ms - 1_000_000, fault));
        }
        story.pass(100);
    }
    let expected = [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500, 63_500, 123_500, 183_500, 243_500];
    assert_eq!(tried_ms, expected);
    let expected = [(0, None), (10_100, Some(Rung::Reassert)), (63_500, Some(Rung::Hold))];
    assert_eq!(rungs, expected);
    assert_eq!(story.drift(LinkMtu).count, 1, "it is one drift, however long");
    assert_eq!(next_deadline_ms(&story.state), Some(1_303_500));

    story.find_well(LinkMtu);
    assert_eq!((story.turn(), story.faults()), (vec![], vec![]));
}

#[test]
fn what_is_read_rarely_is_tried_again_only_after_a_reading() {
    let mut story = Story::new();
    story.find(SleepOff, Flag(false));
    assert_eq!(story.turn(), sleep());
    for _ in 0..100 {
        story.pass(1_000);
        assert_eq!(story.turn(), [], "the reading is older than the try");
    }
    assert_eq!(next_deadline_ms(&story.state), None);
    story.find(SleepOff, Flag(false));
    assert_eq!(story.turn(), sleep(), "it was read again and is still broken");
}

#[test]
fn flapping_is_left_alone_and_resumes() {
    let mut story = Story::new();
    story.setup.host.flap_max = 3;
    let flap = |story: &mut Story| {
        story.find_all_well();
        story.find(LinkMtu, Count(1_500));
        let actions = story.turn();
        let disk = story.state.clone();
        story.pass(500);
        story.find_well(LinkMtu);
        assert_eq!(story.turn(), []);
        story.pass(500);
        (actions, disk)
    };
    for _ in 0..3 {
        assert_eq!(flap(&mut story).0, mtu());
        assert_eq!(story.faults(), []);
    }
    let (actions, paused) = flap(&mut story);
    assert_eq!(actions, [], "the fourth within a window is one too many");
    let until_ms = 1_003_000 + story.setup.host.flap_window_ms;
    assert_eq!(story.drift(LinkMtu).paused_until_ms, Some(until_ms));
    assert_eq!(next_deadline_ms(&story.state), Some(until_ms));
    while story.now.boot_ms < until_ms - 1_000 {
        assert_eq!(flap(&mut story).0, []);
        assert_eq!(story.faults(), [(Kind::Flapping(LinkMtu), Rung::None)]);
        assert!(story.state.is_same_on_disk(&paused), "what flaps fast is not saved as fast");
    }
    story.find(LinkMtu, Count(1_500));
    assert_eq!((story.turn(), story.blocked().len()), (vec![], 1), "the engine still waits for it");
    story.find_all_well();

    story.now.boot_ms = until_ms;
    story.find_all_well();
    story.find(LinkMtu, Count(1_500));
    assert_eq!(story.turn(), mtu());
    assert_eq!(story.drift(LinkMtu).paused_until_ms, None);
    assert_eq!(story.faults(), [(Kind::Broken(LinkMtu), Rung::Reassert)]);
    story.find_well(LinkMtu);
    assert_eq!((story.turn(), story.faults()), (vec![], vec![]));
}

#[test]
fn slow_drifting_is_no_flapping() {
    let mut story = Story::new();
    story.setup.host.flap_max = 3;
    for drifts in 1..=50 {
        story.find(LinkMtu, Count(1_500));
        assert_eq!(story.turn(), mtu());
        story.find_well(LinkMtu);
        assert_eq!(story.turn(), []);
        assert_eq!(story.drift(LinkMtu).count, drifts);
        story.pass(20_000);
    }
    assert_eq!(story.drift(LinkMtu).recent_ms.len(), 3, "only those of the last window are kept");
}

#[test]
fn an_operators_hold_stops_mending_until_it_ends() {
    let mut story = Story::new();
    story.state.operator.hold = Some(Hold { until_wall_ms: None });
    story.find(LinkMtu, Count(1_500));
    for _ in 0..3 {
        assert_eq!(story.turn(), []);
        story.pass(5_000);
    }
    assert_eq!(next_deadline_ms(&story.state), None);
    assert_eq!(story.drift(LinkMtu).count, 1, "it is told nevertheless");
    assert_eq!(story.faults(), [(Kind::Broken(LinkMtu), Rung::Reassert)]);
    story.state.operator.hold = None;
    assert_eq!(story.turn(), mtu());
}

#[test]
fn going_unknown_neither_ends_a_drift_nor_makes_the_next_try_an_early_one() {
    let mut story = Story::new();
    story.find(LinkMtu, Count(1_500));
    assert_eq!(story.turn(), mtu());
    for _ in 0..4 {
        story.pass(50);
        story.lose(LinkMtu, Unknown::Failed("busy".into()));
        assert_eq!(story.turn(), []);
        story.pass(50);
        story.find(LinkMtu, Count(1_500));
        assert_eq!(story.turn(), []);
    }
    story.pass(100);
    assert_eq!(story.turn(), mtu());
    assert_eq!((story.drift(LinkMtu).count, story.drift(LinkMtu).held_ms), (1, None));
}

#[test]
fn quiet_turns_leave_the_disk_alone() {
    let mut story = Story::new();
    story.find(LinkMtu, Count(1_500));
    story.find(GpuUsable, Flag(false));
    story.lose(OsVersion, Unknown::Failed("denied".into()));
    story.turn();
    let first = story.state.clone();
    for _ in 0..1_000 {
        story.pass(700);
        story.find_all_well();
        // Still broken, whatever the value.
        story.find(LinkMtu, Count(1_280 + story.now.boot_ms % 200));
        story.find(GpuUsable, Flag(false));
        story.lose(OsVersion, Unknown::Failed("denied".into()));
        story.turn();
        assert!(story.state.is_same_on_disk(&first));
    }
}

#[test]
fn a_drift_outlives_the_supervisor_and_is_tried_anew() {
    let mut story = Story::new();
    story.find(LinkMtu, Count(1_500));
    for _ in 0..100 {
        story.turn();
        story.pass(100);
        story.find(LinkMtu, Count(1_500));
    }
    let fault = [(Kind::Broken(LinkMtu), Rung::Reassert)];
    story.pass(1);
    assert_eq!((story.turn(), story.faults().as_slice()), (vec![], fault.as_slice()));
    story.state = story.state.resumed("boot");
    assert_eq!(story.turn(), mtu());
    assert_eq!(story.faults(), fault, "it is not cleared and raised again by a restart");
    assert_eq!((story.drift(LinkMtu).count, story.drift(LinkMtu).since_ms), (1, 1_000_000));
    assert!(story.state.resumed("another boot").drifts.is_empty());
}
