//! Orders while the ledger can't be written: nothing is obeyed that its giver is told was not.

use super::*;
use crate::{Order, OrderKind, SaveError, What, World, pair::NodeReport, turn::Turns};

/// A world in which nothing changes but whether it can save.
struct Disk {
    seen: Observation,
    is_full: bool,
    asked: Vec<Action>,
    told: Vec<What>,
}

impl World for Disk {
    fn now(&mut self) -> Moment {
        at(NOW)
    }

    fn observe(&mut self) -> Observation {
        self.seen.clone()
    }

    fn save(&mut self, _: &State, events: &[crate::Event]) -> Result<(), SaveError> {
        if self.is_full {
            return Err(SaveError::new("ledger.db", "no space"));
        }
        self.told.extend(events.iter().map(|event| event.what.clone()));
        Ok(())
    }

    fn tell(&mut self, _: &NodeReport) {}

    fn perform(&mut self, action: &Action) {
        self.asked.push(action.clone());
    }
}

#[test]
fn an_order_that_can_not_be_saved_is_not_obeyed_and_one_that_waits_is_once_it_can() {
    type Check = fn(&State) -> bool;
    let reason = || "test".to_owned();
    let rows: [(OrderKind, Check); 5] = [
        (OrderKind::Drain, |state| state.operator.drained),
        (OrderKind::Resume, |state| !state.operator.drained),
        (OrderKind::Hold { until_wall_ms: None }, |state| state.operator.hold.is_some()),
        (OrderKind::Release, |state| !matches!(state.gang, Gang::Held { .. })),
        (OrderKind::Reboot { all: false, reason: reason() }, |state| {
            state.reboot_memory.order.is_some() || state.reboot.intent().is_some()
        }),
    ];
    for (what, is_obeyed) in rows {
        let mut state = match what {
            OrderKind::Release => state(Gang::Held { reason: reason(), reboot: None }),
            _ => state(Gang::Serving),
        };
        state.operator.drained = what == OrderKind::Resume;
        let mut world =
            Disk { seen: seen([ready(), ready()]), is_full: false, asked: vec![], told: vec![] };
        let setup = Setup { can_reboot: true, ..setup() };
        let mut turns = Turns::new(state);
        turns.take(&setup, &mut world);
        assert!(!is_obeyed(turns.state()), "{what:?} changes something");

        world.seen.orders = vec![Order { number: 1, what: what.clone() }];
        world.is_full = true;
        for _ in 0..3 {
            world.asked.clear();
            turns.take(&setup, &mut world);
            assert!(!is_obeyed(turns.state()), "{what:?} is obeyed though it can't be saved");
            assert_eq!(turns.state().last_order, 0, "{what:?}");
        }
        // It was withdrawn, and then the disk has room: nothing of it is left.
        let mut withdrawn = Disk { is_full: false, ..world };
        withdrawn.seen.orders.clear();
        turns.take(&setup, &mut withdrawn);
        assert!(!is_obeyed(turns.state()), "{what:?} is carried out after all");
        let is_order = |what: &&What| matches!(what, What::Order { .. });
        assert_eq!(withdrawn.told.iter().find(is_order), None, "{what:?} is told as obeyed");
        // Given again, it is obeyed and told once.
        withdrawn.seen.orders = vec![Order { number: 2, what: what.clone() }];
        turns.take(&setup, &mut withdrawn);
        assert!(is_obeyed(turns.state()), "{what:?} is obeyed");
        assert_eq!(withdrawn.told.iter().filter(is_order).count(), 1, "{what:?}");
    }
}
