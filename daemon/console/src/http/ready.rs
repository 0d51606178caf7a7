//! Readiness: tokens came lately, and the supervisor still looks.

use std::time::Duration;

use tandem_policy::{Health, Status};

/// A turn is taken at least once a second; a status as old as this means that none is.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(5);

/// `Ok` if requests can be sent here, else why not, in one line.
pub(super) fn check(last: Option<(&Status, Duration)>) -> Result<(), String> {
    let Some((status, age)) = last else {
        return Err("the supervisor has published no status yet".into());
    };
    if age >= AGE_MAX {
        return Err(format!("the last status is {} s old: the supervisor is stuck", age.as_secs()));
    }
    if status.health == Health::NotServing {
        let why = match (&status.held, status.draining) {
            (Some(held), _) => held.as_str(),
            (None, true) => "it is drained or being drained",
            (None, false) => "tandem status says why",
        };
        return Err(format!("not serving: {why}"));
    }
    if !status.proven {
        return Err(format!("no tokens came lately; the ranks are {}", status.phase));
    }
    // What was proven went through a gateway that may be gone or stuck since.
    if status.gateway.ready != Some(true) {
        let phase = &status.gateway.phase;
        return Err(format!("the gateway does not say that it serves; it is {phase}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::fixtures;

    #[test]
    fn ready_means_proven_lately_and_seen_lately() {
        use Health::{Degraded, Healthy, NotServing};
        let cases = [
            (Healthy, true, 0, ""),
            (Healthy, true, 4_999, ""),
            (Degraded, true, 0, ""),
            (Healthy, true, 5_000, "the last status is 5 s old: the supervisor is stuck"),
            (Healthy, false, 0, "no tokens came lately; the ranks are serving"),
            (Degraded, false, 0, "no tokens came lately; the ranks are serving"),
            (NotServing, true, 0, "not serving: tandem status says why"),
            (NotServing, false, 9_000, "the last status is 9 s old: the supervisor is stuck"),
        ];
        for (health, proven, age_ms, expected) in cases {
            let status = Status { health, proven, ..fixtures::healthy() };
            let said = check(Some((&status, Duration::from_millis(age_ms))));
            assert_eq!(said.err().unwrap_or_default(), expected, "{health:?} {proven} {age_ms}");
        }
        assert_eq!(check(None), Err("the supervisor has published no status yet".into()));
    }

    #[test]
    fn a_proof_through_a_gateway_that_is_gone_or_silent_is_none() {
        for ready in [None, Some(false)] {
            let mut status = fixtures::healthy();
            (status.gateway.ready, status.gateway.phase) = (ready, "backoff".into());
            let said = check(Some((&status, Duration::ZERO)));
            let expected = "the gateway does not say that it serves; it is backoff";
            assert_eq!(said, Err(expected.to_owned()), "{ready:?}");
        }
    }

    #[test]
    fn what_does_not_serve_says_why() {
        let fresh = Duration::ZERO;
        assert_eq!(
            check(Some((&fixtures::drained(), fresh))),
            Err("not serving: it is drained or being drained".into())
        );
        let held = fixtures::held();
        let why = format!("not serving: {}", held.held.clone().unwrap());
        assert_eq!(check(Some((&held, fresh))), Err(why));
    }
}
