//! What is so in every story.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SUBJECTS: [Invariant; 5] = [LinkMtu, LinkAddress, OpenFiles, SleepOff, GpuUsable];
const WINDOW_MS: u64 = 10_000;
const FLAP_MAX: u32 = 3;

/// Most tries of one drift within a window: pauses of 0.5, 1, 2, 4 and 8 s do not fit into 10 s.
const TRIES_MAX_OF_DRIFT: usize = 5;

/// What is read of one invariant in one turn.
#[derive(Clone, Debug)]
enum Read {
    Nothing,
    Well,
    Broken,
    WrongKind,
    Unknown(Unknown),
}

#[derive(Clone, Debug)]
struct Beat {
    pass_ms: u64,
    subject: usize,
    read: Read,
    is_held: bool,
}

/// Turns of one story: its pace is one that bounds are missed by, if any is, so it is drawn once.
fn beats() -> impl Strategy<Value = Vec<Beat>> {
    let pace_ms = prop_oneof![Just(30u64), Just(300), Just(3_000), Just(30_000)];
    pace_ms.prop_flat_map(|pace_ms| prop::collection::vec(beat(pace_ms), 1..400))
}

fn beat(pace_ms: u64) -> impl Strategy<Value = Beat> {
    let read = prop_oneof![
        2 => Just(Read::Nothing),
        4 => Just(Read::Well),
        6 => Just(Read::Broken),
        1 => Just(Read::WrongKind),
        1 => Just(Read::Unknown(Unknown::NotOnThisPlatform)),
        1 => Just(Read::Unknown(Unknown::NotConfigured("key".into()))),
        1 => Just(Read::Unknown(Unknown::Failed("reason".into()))),
        1 => Just(Read::Unknown(Unknown::Hung("probe".into()))),
    ];
    let is_held = prop::bool::weighted(0.1);
    let parts = (0..pace_ms, 0..SUBJECTS.len(), read, is_held);
    parts.prop_map(|(pass_ms, subject, read, is_held)| Beat { pass_ms, subject, read, is_held })
}

fn read(story: &mut Story, subject: Invariant, read: Read) {
    match read {
        Read::Nothing => {}
        Read::Well => story.find_well(subject),
        Read::Broken if subject == LinkAddress => story.find(LinkAddress, Names(Vec::new())),
        Read::Broken if subject.row().is_slow => story.find(subject, Flag(false)),
        Read::Broken => story.find(subject, Count(7)),
        Read::WrongKind => story.find(subject, Found::Text("?".into())),
        Read::Unknown(unknown) => story.lose(subject, unknown),
    }
}

fn mended(action: &Action) -> Invariant {
    match action {
        Action::Mend(Repair::LinkMtu { .. }) => LinkMtu,
        Action::Mend(Repair::LinkAddress { .. }) => LinkAddress,
        Action::Mend(Repair::OpenFiles { .. }) => OpenFiles,
        Action::Mend(Repair::Power { .. }) => SleepOff,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn only_what_is_enforced_and_broken_is_mended_and_only_so_often(
        observed in prop::collection::vec(any::<bool>(), SUBJECTS.len()),
        beats in beats(),
    ) {
        let mut story = Story::new();
        story.setup.host.flap_max = FLAP_MAX;
        story.setup.host.flap_window_ms = WINDOW_MS;
        for (subject, observed) in SUBJECTS.into_iter().zip(observed) {
            let mode = if observed { Mode::Observe } else { Mode::Enforce };
            story.setup.invariants.0.insert(subject, mode);
        }
        let mut tries: BTreeMap<Invariant, VecDeque<u64>> = BTreeMap::new();
        for beat in beats {
            story.pass(beat.pass_ms);
            read(&mut story, SUBJECTS[beat.subject], beat.read);
            story.state.operator.hold = beat.is_held.then_some(Hold { until_wall_ms: None });
            let actions = story.turn();
            prop_assert!(!beat.is_held || actions.is_empty());
            for action in &actions {
                let invariant = mended(action);
                let sighting = story.seen.invariants.get(&invariant);
                let verdict = judge(&story.setup, invariant, sighting, story.now);
                let is_mendable = matches!(verdict, Verdict::Broken { repair: Some(_), .. });
                prop_assert!(is_mendable, "{:?}", verdict);
                prop_assert_eq!(story.setup.invariants.mode(invariant), Mode::Enforce);
                let tries = tries.entry(invariant).or_default();
                tries.push_back(story.now.boot_ms);
                tries.retain(|at_ms| story.now.boot_ms - at_ms < WINDOW_MS);
                // One drift may have begun before the window.
                prop_assert!(tries.len() <= (FLAP_MAX as usize + 1) * TRIES_MAX_OF_DRIFT);
            }
            for drift in story.state.drifts.values() {
                prop_assert!(drift.recent_ms.len() <= FLAP_MAX as usize + 1);
            }
            for (kind, _) in story.faults() {
                let (Kind::Broken(invariant) | Kind::Flapping(invariant)) = kind else {
                    panic!("{kind:?}")
                };
                prop_assert_eq!(story.setup.invariants.mode(invariant), Mode::Enforce);
            }
            // The same turn again changes nothing that is on disk and asks for nothing again.
            let after = story.state.clone();
            prop_assert!(story.turn().is_empty());
            prop_assert!(story.state.is_same_on_disk(&after));
        }
    }
}
