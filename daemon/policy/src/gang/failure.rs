//! Why an epoch failed, and the smallest thing that may help.

use tandem_wire::exit;

use super::{Phase, StopCause};
use crate::{
    Ended, Evidence, EvidenceSource, Failure, Moment, Observation, Process, Rung, Setup, State,
    backoff_ms, fault::Kind, reboot, retune,
};

/// Why an epoch broke, and whether another could go better. The ranks that only noticed that
/// another was gone come last: they are consequences.
pub(super) fn root_cause(seen: &Observation, epoch: u64) -> (String, bool) {
    let order = |how: &Ended| match how {
        how if !how.is_retryable() => 0,
        Ended::Code(exit::PEER_LOST | exit::PEER_SILENT) => 2,
        Ended::Code(exit::OK) => 3,
        _ => 1,
    };
    match ended(seen, epoch).min_by_key(|(rank, how)| (order(how), *rank)) {
        Some((rank, how)) => (format!("rank {rank}: {how}"), how.is_retryable()),
        None => ("a rank is missing".into(), true),
    }
}

/// Whether a rank of this epoch ended otherwise than in order: what it had wired may be stranded.
pub(super) fn is_crash(seen: &Observation, epoch: u64) -> bool {
    let orderly = [exit::OK, exit::PEER_LOST, exit::PEER_SILENT, exit::USAGE, exit::MODEL];
    ended(seen, epoch).any(|(_, how)| match how {
        Ended::Code(code) => !orderly.contains(code),
        Ended::Signal(_) | Ended::Unseen => true,
        Ended::NotStarted(_) => false,
    })
}

fn ended(seen: &Observation, epoch: u64) -> impl Iterator<Item = (usize, &Ended)> {
    seen.ranks.iter().enumerate().filter_map(move |(rank, seen)| match &seen.process {
        Process::Ended { epoch: e, how } if *e == epoch => Some((rank, how)),
        _ => None,
    })
}

/// The signature that tells most about this epoch's failure: one that forbids trying again, then one
/// that only a reboot mends, then the most specific.
fn signature(seen: &Observation, epoch: u64) -> Option<&Evidence> {
    let order = |evidence: &&Evidence| match evidence.rung {
        Rung::Hold => 0,
        Rung::Reboot => 1,
        Rung::Retune => 2,
        Rung::Restart => 3,
        Rung::Reassert | Rung::None => 4,
    };
    let is_of_epoch = |evidence: &&Evidence| match evidence.source {
        EvidenceSource::Rank { epoch: e, .. } => e == epoch,
        _ => false,
    };
    seen.evidence.iter().filter(is_of_epoch).min_by_key(order)
}

/// Held, and whether a reboot for a cause of this kind may help.
pub(super) fn held(evidence: String, reboot: Option<&str>) -> Phase {
    let cause =
        reboot.map(|kind| reboot::Cause { kind: kind.to_owned(), evidence: evidence.clone() });
    let reason = format!("{evidence}. Mend the cause, then `tandem release`");
    Phase::Held { reason, reboot: cause }
}

/// All ranks are gone: what now?
pub(super) fn stopped(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    cause: StopCause,
) -> Phase {
    let (root, retryable) = root_cause(seen, state.epoch);
    let (kind, text) = match cause {
        _ if state.draining_since_ms.is_some() => return Phase::Drained,
        StopCause::Stale | StopCause::Drain | StopCause::Plan => return Phase::Idle,
        // Ranks that ended after the first may know better why: one of them may be the culprit.
        StopCause::Failed { kind, .. } if !retryable => (kind, root),
        StopCause::Failed { kind, text } => (kind, text),
    };
    let failure = match signature(seen, state.epoch) {
        Some(evidence) => Failure {
            text: format!("{text}: {}", evidence.text),
            rung: match evidence.rung {
                _ if !retryable => Rung::Hold,
                Rung::None | Rung::Reassert => Rung::Restart,
                rung => rung,
            },
            kind: Kind::Signature(evidence.id.clone()),
            remedy: evidence.remedy.clone(),
        },
        None => Failure {
            text,
            rung: if retryable { Rung::Restart } else { Rung::Hold },
            kind,
            remedy: "see `tandem events` and the log of the rank".into(),
        },
    };
    state.last_failure = Some(failure.clone());
    match failure.rung {
        Rung::Hold => {
            let text = format!("{}; starting again can't help", failure.text);
            held(text, None)
        }
        Rung::Reboot => {
            let kind = match &failure.kind {
                Kind::Signature(id) => id.as_str(),
                kind => kind.name(),
            };
            held(format!("{}; only a reboot mends it", failure.text), Some(kind))
        }
        Rung::Retune if !retune::lower(setup, state, state.epoch) => {
            let text = format!("{}; the prefill step is already the least", failure.text);
            held(text, None)
        }
        _ => restart(setup, state, now, &failure.text),
    }
}

/// Another try, within the budget; beyond it only a reboot may help.
fn restart(setup: &Setup, state: &mut State, now: Moment, failure: &str) -> Phase {
    let supervise = &setup.supervise;
    let window_start = now.boot_ms.saturating_sub(supervise.restart_window_ms);
    state.restarts_ms.retain(|at| *at > window_start || window_start == 0);
    if state.restarts_ms.len() >= supervise.restarts_max as usize {
        let text = format!(
            "{} restarts in {} ms are all that [supervise] allows; the last cause: {failure}",
            supervise.restarts_max, supervise.restart_window_ms
        );
        return held(text, Some("restarts"));
    }
    state.restarts_ms.push(now.boot_ms);
    state.gang_failures = state.gang_failures.saturating_add(1);
    let until_ms = now.boot_ms.saturating_add(backoff_ms(supervise, state.gang_failures));
    Phase::Backoff { until_ms }
}
