//! Reports of a boot that is over: long on their way, or a boot that was called over too early.

use super::rig::Rig;
use crate::{
    Moment, Observation, State,
    invariant::tests::observation,
    pair::{NodeReport, PeerSeen, watch},
};

/// Reports by boot, and when they came.
type Reports = &'static [(&'static str, u64)];

/// What came, and whether the last counts as of a boot that is over. Silence is 3,000 ms.
const STORIES: [(&str, Reports, bool); 7] = [
    ("the boot that it is in", &[("1", 0), ("2", 1_000)], false),
    ("one that was long on its way", &[("1", 0), ("2", 1_000), ("1", 1_500)], true),
    (
        "nothing but the old one, for as long as makes silence",
        &[("1", 0), ("2", 1_000), ("1", 1_500), ("1", 3_000), ("1", 4_500)],
        false,
    ),
    (
        "the same with another boot's between",
        &[("1", 0), ("2", 1_000), ("1", 1_500), ("2", 3_000), ("1", 4_500)],
        true,
    ),
    (
        "two old ones in turn, which do not vouch for each other",
        &[("1", 0), ("2", 1_000), ("3", 2_000), ("1", 2_500), ("2", 4_000), ("1", 5_600)],
        true,
    ),
    (
        "one now and then, and silence between",
        &[("1", 0), ("2", 1_000), ("1", 2_000), ("1", 9_000), ("1", 20_000), ("1", 31_000)],
        true,
    ),
    ("one, looked at for as long as it is fresh", &[("1", 0), ("2", 1_000), ("1", 2_000)], true),
];

#[test]
fn a_boot_that_is_over_is_not_back_by_a_late_report_now_and_then() {
    let mut rig = Rig::new(2);
    rig.serve();
    let setup = rig.nodes[0].setup.clone();
    assert_eq!(setup.pair.silence_timeout_ms, 3_000);
    let told = rig.nodes[1].told.clone().unwrap();
    for (story, reports, is_over) in STORIES {
        let mut state = State::new("boot");
        let mut coming = reports.iter().peekable();
        while let Some((boot, at_ms)) = coming.next() {
            let report = NodeReport { boot: (*boot).into(), ..told.clone() };
            let peers = vec![PeerSeen {
                node: told.node.clone(),
                is_paired: true,
                paths: Vec::new(),
                report: Some((report.clone(), *at_ms)),
                differences: Vec::new(),
            }];
            let seen = Observation { peers, ..observation() };
            // The newest report is looked at in turn after turn, until the next comes.
            let until_ms = coming.peek().map_or(at_ms + 3_001, |(_, next_ms)| *next_ms);
            for boot_ms in (*at_ms..until_ms).step_by(250) {
                watch::step(&setup, &mut state, &seen, Moment { boot_ms, wall_ms: 0 });
            }
            if coming.peek().is_none() {
                let known = &state.scratch.peers[&told.node];
                assert_eq!(known.is_over(&report), is_over, "{story}");
            }
        }
    }
}
