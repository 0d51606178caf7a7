//! The record of a request, written when it is over, however it ends.

use std::{
    io::Write,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tandem_wire::{FinishReason, RequestRecord};

/// What is known of a request so far. Dropping it writes the record.
pub(crate) struct Recorder {
    /// Whether somebody reads the records.
    enabled: bool,
    began: Instant,
    record: RequestRecord,
}

impl Recorder {
    pub(crate) fn new(enabled: bool, model: &str, canary: bool) -> Self {
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
            finish: "cancelled".into(),
            status: 499,
            canary,
        };
        Self { enabled, began: Instant::now(), record }
    }

    pub(crate) fn begin(&mut self, id: &str, prompt_tokens: usize) {
        id.clone_into(&mut self.record.id);
        self.record.prompt_tokens = u32::try_from(prompt_tokens).unwrap_or(u32::MAX);
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

    pub(crate) fn fail(&mut self, status: u16, completion_tokens: u64) {
        self.record.finish = "error".into();
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

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.enabled || self.record.id.is_empty() {
            return;
        }
        self.record.total_ms = self.elapsed_ms();
        if let Ok(mut line) = serde_json::to_vec(&self.record) {
            line.push(b'\n');
            // A history that can't be written is no reason to fail a request.
            let _ = std::io::stdout().lock().write_all(&line);
        }
    }
}
