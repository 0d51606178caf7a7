//! A node that is ready for another's reboot, and what it does while the ledger can't be written: the
//! other goes on hearing that it is.

use super::*;
use crate::{
    Event, SaveError, World,
    pair::{NodePlace, NodeReport, PeerSeen},
    reboot::{Cause, Intent, Phase, Stage, Told},
    turn::Turns,
};

const ID: &str = "a/a-boot/1";

struct Disk {
    seen: Observation,
    now: Moment,
    is_full: bool,
}

impl World for Disk {
    fn now(&mut self) -> Moment {
        self.now
    }

    fn observe(&mut self) -> Observation {
        self.seen.clone()
    }

    fn save(&mut self, _: &State, _: &[Event]) -> Result<(), SaveError> {
        if self.is_full { Err(SaveError::new("ledger.db", "no space")) } else { Ok(()) }
    }

    fn tell(&mut self, report: &NodeReport) {
        let stage = report.reboot.as_ref().map(|told| told.stage);
        assert!(stage != Some(Stage::Draining), "it is never less than ready");
    }

    fn perform(&mut self, _: &Action) {}
}

fn intent() -> Intent {
    Intent {
        id: ID.into(),
        proposer: "a".into(),
        cause: Cause { kind: "leak".into(), evidence: "found".into() },
        is_ordered: false,
        boots: [("a".into(), "a-boot".into()), ("b".into(), "boot".into())].into(),
    }
}

fn setup_of_two() -> Setup {
    let place = |name: &str, rank| NodePlace { name: name.into(), ranks: vec![rank] };
    Setup { node: "b".into(), nodes: vec![place("a", 0), place("b", 1)], ..setup() }
}

/// A supervisor that has been ready for longer than it must, and has saved nothing since.
fn waiting(setup: &Setup) -> (Turns, Disk) {
    let state =
        State { reboot: Phase::Ready { intent: intent(), since_ms: NOW }, ..state(Gang::Drained) };
    let peer = PeerSeen {
        node: "a".into(),
        is_paired: true,
        paths: Vec::new(),
        report: None,
        differences: Vec::new(),
    };
    let mut seen = seen([never(), never()]);
    seen.gateway.process = Process::Never;
    seen.peers = vec![peer];
    let mut world = Disk { seen, now: at(NOW), is_full: false };
    let mut turns = Turns::new(state);
    turns.take(setup, &mut world);
    world.is_full = true;
    world.now = at(NOW + setup.reboot.return_timeout_ms);
    for _ in 0..3 {
        world.now.boot_ms += 500;
        turns.take(setup, &mut world);
        assert!(is_ready(&turns), "what it told is not taken back by what nobody is told");
    }
    (turns, world)
}

/// The disk has room again, which the turn after the first one that saves knows.
fn has_room(turns: &mut Turns, setup: &Setup, world: &mut Disk) {
    world.is_full = false;
    for _ in 0..2 {
        world.now.boot_ms += 500;
        turns.take(setup, world);
    }
}

fn is_ready(turns: &Turns) -> bool {
    matches!(&turns.state().reboot, Phase::Ready { intent, .. } if intent.id == ID)
}

#[test]
fn a_promise_is_given_up_only_once_that_can_be_saved() {
    let setup = setup_of_two();
    let (mut turns, mut world) = waiting(&setup);
    has_room(&mut turns, &setup, &mut world);
    assert_eq!(turns.state().reboot, Phase::Steady);
}

#[test]
fn a_commit_that_was_heard_while_nothing_could_be_saved_is_followed_once_it_can() {
    let setup = setup_of_two();
    let (mut turns, mut world) = waiting(&setup);
    let of_a = Setup { node: "a".into(), ..setup.clone() };
    let mut report = NodeReport::of(&of_a, &State::new("a-boot"), &world.seen, world.now);
    for stage in [Stage::Committed, Stage::Rebooting] {
        report.reboot = Some(Told { intent: intent(), stage, veto: None });
        world.now.boot_ms += 500;
        world.seen.peers[0].report = Some((report.clone(), world.now.boot_ms));
        turns.take(&setup, &mut world);
        assert!(is_ready(&turns), "a commit that can't be saved can't be told");
    }
    // It goes down, and is not heard any more.
    world.now.boot_ms += setup.pair.silence_timeout_ms + 1;
    turns.take(&setup, &mut world);
    assert!(is_ready(&turns));
    has_room(&mut turns, &setup, &mut world);
    assert!(turns.state().reboot.is_committed(), "{:?}", turns.state().reboot);
}

#[test]
fn a_commit_that_was_heard_and_then_taken_back_is_not_followed() {
    let setup = setup_of_two();
    let (mut turns, mut world) = waiting(&setup);
    let of_a = Setup { node: "a".into(), ..setup.clone() };
    let mut report = NodeReport::of(&of_a, &State::new("a-boot"), &world.seen, world.now);
    for stage in [Some(Stage::Committed), None] {
        report.reboot = stage.map(|stage| Told { intent: intent(), stage, veto: None });
        world.now.boot_ms += 500;
        report.uptime_ms = world.now.boot_ms;
        world.seen.peers[0].report = Some((report.clone(), world.now.boot_ms));
        turns.take(&setup, &mut world);
    }
    has_room(&mut turns, &setup, &mut world);
    assert_eq!(turns.state().reboot, Phase::Steady);
}
