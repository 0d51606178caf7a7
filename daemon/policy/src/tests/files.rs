//! The model's files: what was proven is remembered, and what changed since is named.

use super::*;
use crate::{fault::Kind, pair::Mode};

/// When the ranks of the epoch were begun.
const BEGUN: u64 = NOW - 60_000;

fn with(since_ms: u64, changed: Option<&[&str]>) -> Observation {
    let changed = changed.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect());
    let manifest = ManifestSeen { digest: "d".into(), since_ms, changed };
    Observation { manifest: Some(manifest), ..seen([ready(), ready()]) }
}

fn begun(state: State) -> State {
    let scratch = Scratch { begun_ms: BEGUN, ..state.scratch };
    State { scratch, ..state }
}

fn keeps(state: &State, seen: &Observation) -> bool {
    let actions = decide(&setup(), state, seen, at(NOW)).actions;
    actions.contains(&KeepManifest { digest: "d".into() })
}

#[test]
fn files_that_were_loaded_and_proven_are_remembered() {
    let proven = || begun(proven(Gang::Serving));
    assert!(keeps(&proven(), &with(BEGUN, None)), "never remembered before");
    assert!(keeps(&proven(), &with(BEGUN, Some(&["a: only now"]))), "others serve as well");
    assert!(!keeps(&proven(), &with(BEGUN, Some(&[]))), "they are known");
    assert!(!keeps(&proven(), &with(BEGUN + 1, None)), "they came after the ranks were begun");
    assert!(!keeps(&begun(state(Gang::Serving)), &with(BEGUN, None)), "nothing is proven yet");
    assert!(!keeps(&proven().resumed("boot"), &with(0, None)), "who knows what was loaded");
    let mut fallback = proven();
    fallback.mode = Mode::Alone { why: "r".into() };
    assert!(!keeps(&fallback, &with(0, None)), "the fallback has other files");
}

/// A gang that answered garbage, once all ranks are gone.
fn after_garbage(seen: Observation) -> Decision {
    let cause = StopCause::Failed { kind: Kind::Garbage, text: "no tokens".into() };
    let stopping = begun(state(Gang::Stopping { deadline_ms: NOW + 1_000, cause }));
    let gone = Observation { ranks: vec![lost(0), lost(0)], ..seen };
    decide(&setup(), &stopping, &gone, at(NOW))
}

#[test]
fn damaged_files_are_named_and_not_loaded_again() {
    let damage = ["model-2.safetensors: the same size, other content before"];
    let decision = after_garbage(with(BEGUN, Some(&damage)));
    let Gang::Held { reason, reboot } = &decision.state.gang else {
        panic!("{:?}", decision.state.gang)
    };
    assert!(reason.contains(damage[0]) && reason.contains("no tokens"), "{reason}");
    assert_eq!(*reboot, None);
    // Where files may be others than those that were loaded, another start may help.
    for seen in [with(BEGUN, Some(&[])), with(BEGUN + 1, Some(&damage)), with(BEGUN, None)] {
        assert_eq!(after_garbage(seen).state.gang.name(), "backoff");
    }
}

#[test]
fn changed_files_are_a_fault_for_as_long_as_they_differ() {
    let faults = |seen: &Observation| {
        let faults = decide(&setup(), &begun(proven(Gang::Serving)), seen, at(NOW)).state.faults;
        faults.into_iter().filter(|fault| fault.kind == Kind::ModelChanged).collect::<Vec<_>>()
    };
    let found = faults(&with(NOW, Some(&["config.json: 7 bytes now, 9 before"])));
    assert_eq!((found.len(), found[0].rung), (1, Rung::None), "what serves is left alone");
    assert!(found[0].evidence.contains("config.json: 7 bytes now, 9 before"));
    assert!(faults(&with(NOW, Some(&[]))).is_empty());
    assert!(faults(&with(NOW, None)).is_empty());
}
