//! The record of a request, written when it is over, however it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tandem_wire::{FinishReason, RequestRecord};

use crate::records::Records;

/// Ends by the client: what a record says until it is told otherwise.
const CANCELLED: &str = "cancelled";

/// What is known of a request so far. Dropping it writes the record.
pub(crate) struct Recorder {
    /// Where it goes.
    records: Records,
    /// Whether another gateway keeps the record, unless this one cuts the request off.
    is_proxied: bool,
    /// Whether the gateway is cutting off what runs.
    cut_off: Arc<AtomicBool>,
    began: Instant,
    record: RequestRecord,
}

impl Recorder {
    pub(crate) fn new(
        records: Records,
        model: &str,
        canary: bool,
        cut_off: Arc<AtomicBool>,
    ) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = RequestRecord {
            id: String::new(),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            model: model.to_owned(),
            prompt_tokens: 0,
            completion_tokens: 0,
            first_token_ms: None,
            total_ms: 0,
            // What it stays if the client goes away first.
            finish: CANCELLED.into(),
            status: 499,
            canary,
        };
        Self { records, is_proxied: false, cut_off, began: Instant::now(), record }
    }

    /// Of a request that another gateway answers and records: here there is only a record if this
    /// one cuts it off, which looks over there as if the client had gone away. What the request holds
    /// is not known here.
    pub(crate) fn proxied(
        records: Records,
        id: &str,
        canary: bool,
        cut_off: Arc<AtomicBool>,
    ) -> Self {
        let mut recorder = Self::new(records, "", canary, cut_off);
        recorder.is_proxied = true;
        recorder.begin(id, 0);
        recorder
    }

    pub(crate) fn begin(&mut self, id: &str, prompt_tokens: usize) {
        id.clone_into(&mut self.record.id);
        self.record.prompt_tokens = u32::try_from(prompt_tokens).unwrap_or(u32::MAX);
    }

    /// There is nothing to record after all.
    pub(crate) fn forget(&mut self) {
        self.records = Records::none();
    }

    pub(crate) fn first_text(&mut self) {
        let elapsed_ms = self.elapsed_ms();
        self.record.first_token_ms.get_or_insert(elapsed_ms);
    }

    pub(crate) fn finish(&mut self, reason: FinishReason, completion_tokens: u64) {
        self.record.finish = match reason {
            FinishReason::Length => "length".into(),
            FinishReason::Stop => "stop".into(),
        };
        self.record.status = 200;
        self.count(completion_tokens);
    }

    /// `finish`: `error` or `drained`.
    pub(crate) fn fail(&mut self, finish: &str, status: u16, completion_tokens: u64) {
        finish.clone_into(&mut self.record.finish);
        self.record.status = status;
        self.count(completion_tokens);
    }

    pub(crate) fn count(&mut self, completion_tokens: u64) {
        self.record.completion_tokens = u32::try_from(completion_tokens).unwrap_or(u32::MAX);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Recorder {
    /// What is to be written at the end, if anything.
    fn ended(&mut self) -> Option<&RequestRecord> {
        let is_cut_off = self.cut_off.load(Ordering::SeqCst);
        if !self.records.are_kept() || self.record.id.is_empty() || (self.is_proxied && !is_cut_off)
        {
            return None;
        }
        // A client that does not read learns nothing of the end of its stream, and then the drain
        // closes its connection: that is not the client's doing.
        if self.record.finish == CANCELLED && is_cut_off {
            self.record.finish = "drained".into();
            self.record.status = 503;
        }
        self.record.total_ms = self.elapsed_ms();
        Some(&self.record)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let Some(record) = self.ended().cloned() else {
            return;
        };
        if let Ok(mut line) = serde_json::to_vec(&record) {
            line.push(b'\n');
            self.records.write(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_who_ended_the_request() {
        type End = fn(&mut Recorder);
        let rows: [(End, bool, &str, u16); 6] = [
            (|_| {}, false, "cancelled", 499),
            (|_| {}, true, "drained", 503),
            (|r| r.fail("drained", 503, 2), true, "drained", 503),
            (|r| r.fail("error", 500, 2), true, "error", 500),
            (|r| r.finish(FinishReason::Stop, 2), true, "stop", 200),
            (|r| r.finish(FinishReason::Length, 2), false, "length", 200),
        ];
        for (row, (end, cut_off, finish, status)) in rows.into_iter().enumerate() {
            let records = Records::new(true);
            let mut recorder = Recorder::new(records, "m", false, Arc::new(cut_off.into()));
            assert_eq!(recorder.ended(), None, "row {row}: it has not begun");
            recorder.begin("chatcmpl-1", 3);
            end(&mut recorder);
            let record = recorder.ended().unwrap().clone();
            assert_eq!((record.finish.as_str(), record.status), (finish, status), "row {row}");
            recorder.forget();
        }
    }

    #[test]
    fn a_proxied_request_is_recorded_only_where_it_is_cut_off() {
        for (cut_off, is_whole, recorded) in
            [(false, false, false), (false, true, false), (true, true, false), (true, false, true)]
        {
            let records = Records::new(true);
            let cut_off_now = Arc::new(cut_off.into());
            let mut recorder = Recorder::proxied(records, "proxied-1", true, cut_off_now);
            if is_whole {
                recorder.forget();
            }
            let finish = recorder.ended().map(|record| record.finish.clone());
            assert_eq!(finish.as_deref(), recorded.then_some("drained"), "{cut_off} {is_whole}");
            recorder.forget();
        }
    }
}
