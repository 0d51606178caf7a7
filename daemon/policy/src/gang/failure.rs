//! Why an epoch failed, and the smallest thing that may help.

use tandem_wire::exit;

use super::{Phase, StopCause, failed};
use crate::{
    Ended, Evidence, EvidenceSource, Failure, KILLED_FOR_MEMORY, Moment, Observation, Process,
    Rung, Setup, State, backoff_ms,
    fault::Kind,
    files,
    pair::{Ending, fabric},
    reboot, retune,
};

/// What broke an epoch.
pub(super) struct Root {
    /// In words.
    pub(super) text: String,
    /// Whether another epoch could go better.
    pub(super) is_retryable: bool,
    /// Whether it is what another node's rank did, and not what followed from another's end.
    is_theirs: bool,
}

/// Why an epoch broke. The ranks that only noticed that another was gone come last: they are
/// consequences.
pub(super) fn root_cause(setup: &Setup, seen: &Observation, epoch: u64) -> Root {
    let own =
        ended(seen, epoch).map(|(index, how)| (order(how), setup.rank_number(index), "", how));
    let theirs =
        told_ended(setup, seen, epoch).map(|(node, rank, how, _)| (order(how), rank, node, how));
    match own.chain(theirs).min_by_key(|(order, rank, ..)| (*order, *rank)) {
        Some((order, rank, node, how)) => {
            let place = if node.is_empty() { String::new() } else { format!(" on {node}") };
            let text = format!("rank {rank}{place}: {how}");
            let is_theirs = !node.is_empty() && order < 2;
            Root { text, is_retryable: how.is_retryable(), is_theirs }
        }
        None => Root { text: "a rank is missing".into(), is_retryable: true, is_theirs: false },
    }
}

/// How near an end is to the cause: 0 and 1 may be it, 2 and 3 only follow from another's.
fn order(how: &Ended) -> u8 {
    match how {
        how if !how.is_retryable() => 0,
        Ended::Code(exit::PEER_LOST | exit::PEER_SILENT) => 2,
        Ended::Code(exit::OK) => 3,
        _ => 1,
    }
}

/// Why an epoch ends of which ranks of this node are not there any more. Where another node leads and
/// they only noticed that another rank was gone, nothing has failed here.
pub(super) fn broken(setup: &Setup, seen: &Observation, epoch: u64) -> StopCause {
    let follows = !setup.is_alone() && !setup.leads();
    let has_noticed = ended(seen, epoch).any(|(_, how)| order(how) == 2);
    if follows && has_noticed && ended(seen, epoch).all(|(_, how)| order(how) >= 2) {
        return StopCause::Lost;
    }
    failed(Kind::Engine, root_cause(setup, seen, epoch).text)
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

/// The end of a rank behind one that only followed from it and was seen first: what waits for each process
/// learns of its end in its own time. One that was killed here did not end by itself.
fn behind(setup: &Setup, state: &State, seen: &Observation, first: &str) -> Option<String> {
    let told = |(index, how): (usize, &Ended)| format!("rank {}: {how}", setup.rank_number(index));
    let follows = |end: &(usize, &Ended)| order(end.1) >= 2;
    ended(seen, state.epoch).filter(follows).map(told).find(|text| text == first)?;
    let was_killed_here = |index: usize| {
        let rank = setup.rank_number(index);
        state.suspected_leaks.iter().any(|leak| leak.epoch == state.epoch && leak.rank == rank)
    };
    let own = ended(seen, state.epoch).filter(|end| !follows(end) && !was_killed_here(end.0));
    own.min_by_key(|end| order(end.1)).map(told)
}

fn ended(seen: &Observation, epoch: u64) -> impl Iterator<Item = (usize, &Ended)> {
    seen.ranks.iter().enumerate().filter_map(move |(rank, seen)| match &seen.process {
        Process::Ended { epoch: e, how } if *e == epoch => Some((rank, how)),
        _ => None,
    })
}

/// Ranks of other nodes that ended in this epoch, as their nodes last told: which node, which rank,
/// how, and what was found about it.
fn told_ended<'a>(
    setup: &'a Setup,
    seen: &'a Observation,
    epoch: u64,
) -> impl Iterator<Item = (&'a str, u32, &'a Ended, Option<&'a Ending>)> {
    let peers = seen.peers.iter().filter(|_| !setup.is_alone());
    let reports = peers.filter_map(|peer| peer.report.as_ref()).map(|(report, _)| report);
    reports.filter(|report| !report.is_alone).flat_map(move |report| {
        report.ranks.iter().filter_map(move |rank| match &rank.process {
            Process::Ended { epoch: e, how } if *e == epoch => {
                Some((report.node.as_str(), rank.rank, how, rank.ending.as_ref()))
            }
            _ => None,
        })
    })
}

/// The signature that tells most about this epoch's failure, on whatever node it was found: one that
/// forbids trying again, then one that only a reboot mends, then the most specific.
fn signature(setup: &Setup, seen: &Observation, epoch: u64) -> Option<Ending> {
    let order = |ending: &Ending| match ending.rung {
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
    let own = seen.evidence.iter().filter(is_of_epoch).map(|evidence| Ending {
        signature: evidence.id.clone(),
        rung: evidence.rung,
        is_of_fabric: evidence.is_of_fabric,
        text: evidence.text.clone(),
        remedy: evidence.remedy.clone(),
    });
    let theirs = told_ended(setup, seen, epoch).filter_map(|(.., ending)| ending.cloned());
    own.chain(theirs).min_by_key(order)
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
    let root = root_cause(setup, seen, state.epoch);
    let retryable = root.is_retryable;
    let (kind, text) = match cause {
        _ if state.draining_since_ms.is_some() => return Phase::Drained,
        StopCause::Failed { kind, text } => match kind {
            // Ranks that ended after the first may know better why: one of them may be the culprit.
            kind if !retryable => (kind, root.text),
            // So may another node, whose word comes after its own ranks' end was seen here.
            Kind::Engine if root.is_theirs => (kind, root.text),
            kind => (kind, behind(setup, state, seen, &text).unwrap_or(text)),
        },
        StopCause::Stale
        | StopCause::Drain
        | StopCause::Plan
        | StopCause::Leader
        | StopCause::Lost
        | StopCause::Return
        | StopCause::Peer { .. } => return Phase::Idle,
    };
    let failure = match signature(setup, seen, state.epoch) {
        // How the ranks ended that were told to does not say why they lied.
        Some(_) if kind == Kind::Garbage && retryable => Failure {
            text,
            rung: Rung::Restart,
            kind,
            remedy: "check the model's files, or import the model again".into(),
        },
        Some(ending) => Failure {
            text: format!("{text}: {}", ending.text),
            rung: match ending.rung {
                _ if !retryable => Rung::Hold,
                // The node with rank 0 counts, since it chooses what the next one is carried by.
                rung if ending.is_of_fabric && rung != Rung::None && setup.leads() => {
                    let restarts = recent_restarts(setup, state, now).saturating_add(1);
                    let is_last = restarts >= setup.supervise.restarts_max as usize;
                    fabric::note_failure(setup, state, (rung, is_last), &ending.text)
                }
                Rung::None | Rung::Reassert => Rung::Restart,
                rung => rung,
            },
            kind: Kind::Signature(ending.signature),
            remedy: ending.remedy,
        },
        None => Failure {
            text,
            rung: if retryable { Rung::Restart } else { Rung::Hold },
            kind,
            remedy: "see `tandem events` and the log of the rank".into(),
        },
    };
    if !setup.is_alone() && !setup.leads() {
        // What to do about it is the leader's to say, by its own budget; this node only tells it.
        state.last_failure = Some(failure);
        return Phase::Idle;
    }
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
        Rung::Retune
            if !retune::lower(setup, state, state.epoch)
                && failure.kind != Kind::Signature(KILLED_FOR_MEMORY.into()) =>
        {
            let text = format!("{}; the prefill step is already the least", failure.text);
            held(text, None)
        }
        _ if failure.kind == Kind::Garbage => match files::suspect(state, seen) {
            Some(changed) => {
                let text = format!("{}; {changed}; starting again loads the same", failure.text);
                held(text, None)
            }
            None => restart_a_liar(setup, state, now, &failure.text),
        },
        _ => restart(setup, state, now, &failure.text),
    }
}

/// How often the ranks were restarted in this window.
fn recent_restarts(setup: &Setup, state: &mut State, now: Moment) -> usize {
    in_window(setup, &mut state.restarts_ms, now)
}

/// How many of these are in this window; the others are forgotten.
fn in_window(setup: &Setup, restarts_ms: &mut Vec<u64>, now: Moment) -> usize {
    let window_start = now.boot_ms.saturating_sub(setup.supervise.restart_window_ms);
    restarts_ms.retain(|at| *at > window_start || window_start == 0);
    restarts_ms.len()
}

/// Restarts in one window of ranks that answer garbage: what another start mends, one mends; the
/// second is for chance.
const GARBAGE_RESTARTS_MAX: usize = 2;

/// Another try with ranks that answered garbage. They have a budget of their own, after which they
/// are held and no reboot is asked for: it is a request that says so, and files that are damaged are so
/// after a reboot.
fn restart_a_liar(setup: &Setup, state: &mut State, now: Moment, failure: &str) -> Phase {
    let most = GARBAGE_RESTARTS_MAX.min(setup.supervise.restarts_max as usize);
    if in_window(setup, &mut state.garbage_restarts_ms, now) >= most {
        let text = format!(
            "the ranks answer garbage, and {most} restarts did not help: {failure}; the model's \
             files may be damaged"
        );
        return held(text, None);
    }
    state.garbage_restarts_ms.push(now.boot_ms);
    back_off(setup, state, now)
}

/// Another try, within the budget; beyond it only a reboot may help.
fn restart(setup: &Setup, state: &mut State, now: Moment, failure: &str) -> Phase {
    let supervise = &setup.supervise;
    if recent_restarts(setup, state, now) >= supervise.restarts_max as usize {
        let text = format!(
            "{} restarts in {} ms are all that [supervise] allows; the last cause: {failure}",
            supervise.restarts_max, supervise.restart_window_ms
        );
        return held(text, Some(reboot::cause::RESTARTS));
    }
    state.restarts_ms.push(now.boot_ms);
    back_off(setup, state, now)
}

fn back_off(setup: &Setup, state: &mut State, now: Moment) -> Phase {
    state.gang_failures = state.gang_failures.saturating_add(1);
    let pause_ms = backoff_ms(&setup.supervise, state.gang_failures);
    Phase::Backoff { until_ms: now.boot_ms.saturating_add(pause_ms) }
}
