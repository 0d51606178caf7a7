use super::*;
use crate::{
    Hold,
    invariant::{Found, Invariant, Sighting, Unknown},
    leak::scene::{self, GIB, TOTAL_GIB, at, owner},
};

const NOW: u64 = 1_000_000;

type Change = fn(&mut State, &mut Observation);

fn after(change: Change) -> (Result<(), Refusal>, Vec<Condition>) {
    let setup = Setup::default();
    let mut state = State::new("boot");
    state.scratch.absent_since_ms = Some(0);
    let mut seen = scene::quiet(NOW);
    for invariant in Invariant::ALL {
        seen.invariants.insert(invariant, Sighting::Unknown(Unknown::NotOnThisPlatform));
    }
    change(&mut state, &mut seen);
    (check(&setup, &state, &seen, at(NOW)), conditions(&setup, &state, &seen, at(NOW)))
}

fn wired(seen: &mut Observation, gib: u64) {
    seen.memory = Some(scene::memory(NOW, gib, Vec::new()));
}

#[test]
fn a_quiet_host_with_room_admits_the_engine() {
    let (checked, conditions) = after(|_, _| {});
    assert_eq!((checked, conditions), (Ok(()), Vec::new()));
}

/// What changed, a part of the refusal, and whether memory is the fault that is told.
#[test]
fn whatever_is_missing_or_unknown_refuses_and_says_so() {
    let rows: [(Change, &str, bool); 15] = [
        (
            |_, seen| {
                let found = Found::Count(0);
                let full = Sighting::Known { found, source: "test".into(), at_ms: NOW };
                seen.invariants.insert(Invariant::DiskSpace, full);
            },
            "disk_space",
            false,
        ),
        (
            |_, seen| drop(seen.invariants.remove(&Invariant::GpuUsable)),
            "gpu_usable is not known",
            false,
        ),
        (|state, _| state.operator.hold = Some(Hold { until_wall_ms: None }), "operator", false),
        (|_, seen| seen.artifacts = Artifacts::Unread, "not looked at", false),
        (|_, seen| seen.artifacts = Artifacts::Incomplete("no config".into()), "no config", false),
        (|_, seen| seen.memory = None, "not known", true),
        (
            // Three periods of 5 s and 10 s more.
            |_, seen| seen.memory.as_mut().unwrap().at_ms = NOW - 25_001,
            "not known",
            true,
        ),
        (|state, _| state.leak = watching(), "being watched", true),
        (|state, _| state.leak = suspect(), "suspected", false),
        (|state, _| state.leak = confirmed(), "has leaked", false),
        (
            |_, seen| {
                wired(seen, 80);
                seen.artifacts = Artifacts::Complete { weights_bytes: GIB, need: Need::Estimated };
            },
            "owned by no live process",
            true,
        ),
        (|_, seen| seen.memory.as_mut().unwrap().available_bytes = 401 * GIB - 1, "need", true),
        (|_, seen| needs(seen, u64::MAX, Need::Estimated), "need", true),
        (|_, seen| needs(seen, 1, Need::Bytes(600 * GIB)), "need 614400 MiB", true),
        (|_, seen| needs(seen, 1, Need::TooMuch("lower a key".into())), "lower a key", true),
    ];
    for (row, (change, expected, is_memory)) in rows.into_iter().enumerate() {
        let (checked, conditions) = after(change);
        let refusal = checked.unwrap_err();
        assert!(refusal.text.contains(expected), "row {row}: {}", refusal.text);
        assert!(!refusal.remedy.is_empty(), "row {row}");
        let told: Vec<_> = conditions.iter().map(|c| (&c.kind, c.rung)).collect();
        let wanted = if is_memory { vec![(&Kind::Memory, Rung::None)] } else { Vec::new() };
        assert_eq!(told, wanted, "row {row}");
    }
}

fn needs(seen: &mut Observation, weights_bytes: u64, need: Need) {
    seen.artifacts = Artifacts::Complete { weights_bytes, need };
}

fn watching() -> Verdict {
    Verdict::Watching { since_ms: 0, unexplained_bytes: 90 * GIB }
}

fn suspect() -> Verdict {
    Verdict::Suspect { since_ms: 0, unexplained_bytes: 90 * GIB }
}

fn confirmed() -> Verdict {
    Verdict::Confirmed { since_ms: 0, unexplained_bytes: 90 * GIB }
}

#[test]
fn the_edges_of_room_and_age_admit() {
    let rows: [Change; 4] = [
        |_, seen| seen.memory.as_mut().unwrap().available_bytes = 401 * GIB,
        // What was computed counts, however large the files are.
        |_, seen| {
            seen.memory.as_mut().unwrap().available_bytes = 401 * GIB;
            needs(seen, u64::MAX, Need::Bytes(400 * GIB));
        },
        |_, seen| seen.memory.as_mut().unwrap().at_ms = NOW - 25_000,
        // Large, alive, and leaving enough: what it has wired is explained.
        |_, seen| {
            let owners = vec![owner(77, "ollama", 90)];
            seen.memory = Some(scene::memory(NOW, 90, owners));
        },
    ];
    for (row, change) in rows.into_iter().enumerate() {
        assert_eq!(after(change).0, Ok(()), "row {row}");
    }
}

#[test]
fn memory_is_no_fault_while_nothing_waits_for_it_or_nobody_looked_yet() {
    let rows: [Change; 3] = [
        |state, seen| {
            state.gang = gang::Phase::Serving;
            wired(seen, TOTAL_GIB - 1);
        },
        |state, seen| {
            state.gang = gang::Phase::Drained;
            wired(seen, TOTAL_GIB - 1);
        },
        |state, seen| {
            state.scratch.absent_since_ms = Some(NOW - 1_000);
            seen.memory = None;
        },
    ];
    for (row, change) in rows.into_iter().enumerate() {
        assert_eq!(after(change).1, Vec::new(), "row {row}");
    }
}

#[test]
fn what_is_told_does_not_change_with_the_figures() {
    let told = |free: u64| {
        let mut seen = scene::quiet(NOW);
        seen.memory.as_mut().unwrap().available_bytes = free * GIB;
        check(&Setup::default(), &State::new("boot"), &seen, at(NOW)).unwrap_err()
    };
    assert_eq!(told(300), told(301));
}
