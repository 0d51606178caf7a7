//! The history of requests: the gateway writes one line of JSON a finished request to its standard
//! output; prompts and answers are never in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_ledger::{Finish, Request};
use tandem_policy::RequestsSeen;
use tandem_wire::RequestRecord;

/// Most records that wait for the ledger; the oldest go first. Some seconds of the busiest gateway.
const WAITING_MAX: usize = 4_096;

/// Most bytes of one record.
const RECORD_BYTES_MAX: usize = 4 << 10;

/// Records that wait for the ledger, and how many of each kind there were.
#[derive(Clone, Default)]
pub(super) struct Requests(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    waiting: Vec<Request>,
    seen: RequestsSeen,
}

impl Requests {
    /// Takes a line of the gateway's standard output; `epoch` is the one that runs. Whether it is a record.
    pub(super) fn take_line(&self, line: &str, epoch: Option<u64>) -> bool {
        let record = (line.len() <= RECORD_BYTES_MAX)
            .then(|| serde_json::from_str::<RequestRecord>(line).ok())
            .flatten();
        let Some(record) = record.map(|record| request(record, epoch)).filter(Request::is_bounded)
        else {
            return false;
        };
        let mut kept = self.kept();
        count(&mut kept.seen, &record);
        if kept.waiting.len() >= WAITING_MAX {
            kept.waiting.remove(0);
        }
        kept.waiting.push(record);
        true
    }

    /// All that wait.
    pub(super) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.kept().waiting)
    }

    /// How they ended, since this supervisor started.
    pub(super) fn seen(&self) -> RequestsSeen {
        self.kept().seen
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(seen: &mut RequestsSeen, request: &Request) {
    match request.finish {
        _ if request.canary => {}
        Finish::Stop | Finish::Length => seen.answered = seen.answered.saturating_add(1),
        Finish::Cancelled => seen.abandoned = seen.abandoned.saturating_add(1),
        // Not the client's doing, and no answer either.
        Finish::Drained | Finish::Error => {}
    }
}

fn request(record: RequestRecord, epoch: Option<u64>) -> Request {
    Request {
        id: record.id,
        wall_ms: record.wall_ms,
        model: record.model,
        prompt_tokens: record.prompt_tokens,
        // The engine has no prefix cache yet, so every prompt is computed whole.
        cached_tokens: 0,
        completion_tokens: record.completion_tokens,
        first_token_ms: record.first_token_ms,
        total_ms: record.total_ms,
        finish: match record.finish.as_str() {
            "stop" => Finish::Stop,
            "length" => Finish::Length,
            "cancelled" => Finish::Cancelled,
            "drained" => Finish::Drained,
            _ => Finish::Error,
        },
        status: record.status,
        canary: record.canary,
        epoch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_whole_or_not_at_all() {
        let requests = Requests::default();
        let line = r#"{"id":"chatcmpl-1","wall_ms":5,"model":"m","prompt_tokens":3,
            "completion_tokens":2,"first_token_ms":9,"total_ms":20,"finish":"length",
            "status":200,"canary":false}"#;
        assert!(requests.take_line(&line.replace('\n', ""), Some(4)));
        for odd in ["", "{}", "x", &line.replace("\"m\"", &format!("{:?}", "m".repeat(5_000)))] {
            assert!(!requests.take_line(odd, None), "{odd}");
        }
        requests.take_line(&line.replace('\n', "").replace("length", "drained"), None);
        let taken = requests.take();
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[1].finish, Finish::Drained);
        assert_eq!((taken[0].id.as_str(), taken[0].epoch), ("chatcmpl-1", Some(4)));
        assert_eq!(taken[0].finish, Finish::Length);
        assert_eq!(requests.take(), []);
        assert_eq!(requests.seen(), RequestsSeen { answered: 1, abandoned: 0 });
    }

    #[test]
    fn canaries_and_what_the_gateway_cut_off_are_neither_answered_nor_given_up() {
        let requests = Requests::default();
        for (finish, canary, count) in [
            ("stop", false, 2),
            ("length", false, 1),
            ("cancelled", false, 5),
            ("drained", false, 7),
            ("error", false, 7),
            ("stop", true, 9),
            ("cancelled", true, 9),
        ] {
            let line = format!(
                r#"{{"id":"c","wall_ms":5,"model":"m","prompt_tokens":3,"completion_tokens":2,
                "first_token_ms":9,"total_ms":20,"finish":"{finish}","status":200,"canary":{canary}}}"#
            );
            (0..count).for_each(|_| assert!(requests.take_line(&line.replace('\n', ""), None)));
        }
        assert_eq!(requests.seen(), RequestsSeen { answered: 3, abandoned: 5 });
    }
}
