//! Nothing that works is started again, and nothing small reboots a machine.

use tandem_policy::{Moment, State, fault::Kind, gang};

use super::{Outcome, broken};
use crate::node::Node;

/// After a turn: ranks that are stopped for a fault have it, and a reboot that is asked for them is not
/// asked for what only a request met.
pub(super) fn of_turn(node: &mut Node, state: &State) -> Outcome {
    let is_stopping = matches!(state.gang, gang::Phase::Stopping { .. });
    let was_stopping = std::mem::replace(&mut node.record.was_stopping, is_stopping);
    match &state.gang {
        gang::Phase::Stopping { cause: gang::StopCause::Failed { kind, text }, .. }
            if !was_stopping =>
        {
            a_restart_has_its_cause(node, state.epoch, kind, text)
        }
        gang::Phase::Held { reboot: Some(cause), .. } if is_of_requests(&cause.kind) => {
            broken(format!("a reboot is asked for {}: {}", cause.kind, cause.evidence))
        }
        gang::Phase::Backoff { .. } if was_stopping && node.loaded_damaged_files(state) => {
            match &state.last_failure {
                Some(failure) if failure.kind == Kind::Garbage => {
                    broken(format!("damaged files are loaded again: {}", failure.text))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn a_restart_has_its_cause(node: &Node, epoch: u64, kind: &Kind, text: &str) -> Outcome {
    let t = node.t;
    let is_true = match kind {
        Kind::Canary | Kind::CanaryRefused | Kind::Unanswered => false,
        Kind::Garbage => node.garbles() || node.record.garbled_epoch == Some(epoch),
        Kind::Stall => {
            let own_works = node.ranks.iter().all(|rank| rank.works(t));
            !own_works || !node.ring_reaches() || node.fellows().any(|rank| !rank.works)
        }
        _ => true,
    };
    if is_true { Ok(()) } else { broken(format!("ranks that worked were stopped: {text}")) }
}

const fn is_of_requests_kind(kind: &Kind) -> bool {
    matches!(kind, Kind::Canary | Kind::CanaryRefused | Kind::Unanswered | Kind::Garbage)
}

fn is_of_requests(kind: &str) -> bool {
    [Kind::Canary, Kind::CanaryRefused, Kind::Unanswered, Kind::Garbage]
        .iter()
        .any(|of| of.name() == kind)
}

/// Most restarts in one window of ranks that answer garbage.
pub(super) const GARBAGE_MAX: usize = 2;

/// How many of these are in the window of the last one.
fn in_window(node: &Node, restarts_ms: &[u64]) -> usize {
    let Some(last) = restarts_ms.last() else { return 0 };
    let window_ms = node.setup.supervise.restart_window_ms;
    restarts_ms.iter().filter(|at| last - **at < window_ms).count()
}

/// What answers garbage is started again so many times and no more.
pub(super) fn liars_have_a_budget(node: &Node) -> Outcome {
    let count = in_window(node, &node.record.garbage_restarts_ms);
    if count > GARBAGE_MAX {
        return broken(format!("{count} restarts in one window of ranks that answered garbage"));
    }
    Ok(())
}

/// Whether ranks may be held because they answered garbage again and again.
pub(crate) fn have_lied_too_often(node: &Node) -> bool {
    let most = GARBAGE_MAX.min(node.setup.supervise.restarts_max as usize);
    in_window(node, &node.record.garbage_restarts_ms) >= most
}

/// A try that is counted towards a reboot, in the turn that decided it.
pub(super) fn counted(state: &State, now: Moment) -> Outcome {
    let is_new = state.restarts_ms.last() == Some(&now.boot_ms);
    match &state.last_failure {
        Some(failure) if is_new && is_of_requests_kind(&failure.kind) => {
            broken(format!("counted towards a reboot: {}", failure.text))
        }
        _ => Ok(()),
    }
}
