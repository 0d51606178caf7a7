//! Where the events of a stream end, so that one that is cut off is not passed on by half.

use bytes::{Bytes, BytesMut};

/// Ends an event. Tandem's own gateways write no other line ends.
const EVENT_END: &[u8] = b"\n\n";

/// The last event of a stream.
const LAST_EVENT: &[u8] = b"data: [DONE]\n\n";

/// Most bytes held back of an event that is not whole. Real ones have some kilobytes; what is longer
/// goes on as it comes.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Holds back the event that is not whole yet.
#[derive(Default)]
pub(super) struct Events {
    held: BytesMut,
    is_over: bool,
}

impl Events {
    /// Takes what came; gives what may go on, which may be nothing.
    pub(super) fn push(&mut self, data: Bytes) -> Bytes {
        let whole = if self.held.is_empty() && data.ends_with(EVENT_END) {
            data
        } else {
            self.held.extend_from_slice(&data);
            let end = self.held.windows(EVENT_END.len()).rposition(|two| two == EVENT_END);
            let end = match end {
                Some(start) => start + EVENT_END.len(),
                None if self.held.len() > HELD_BYTES_MAX => self.held.len(),
                None => 0,
            };
            self.held.split_to(end).freeze()
        };
        self.is_over |= whole.ends_with(LAST_EVENT);
        whole
    }

    /// What is left when the stream ends by itself.
    pub(super) fn rest(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// Whether the last event went on.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_events_go_on_wherever_the_stream_is_split() {
        let stream =
            "data: {\"a\":1}\n\n: keep-alive\n\ndata: {\"b\":\"\u{e9}\"}\n\ndata: [DONE]\n\n";
        for size in 1..=stream.len() {
            let mut events = Events::default();
            let mut out = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                assert!(!events.is_over(), "over before its end");
                out.extend_from_slice(&events.push(Bytes::copy_from_slice(piece)));
                assert!(out.is_empty() || out.ends_with(EVENT_END), "half an event went on");
            }
            assert_eq!(out, stream.as_bytes());
            assert!(events.is_over() && events.rest().is_empty(), "pieces of {size}");
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut events = Events::default();
        let mut out = 0;
        for _ in 0..40 {
            out += events.push(Bytes::from(vec![b'x'; 1 << 16])).len();
            assert!(events.held.len() <= HELD_BYTES_MAX);
        }
        assert_eq!(out + events.rest().len(), 40 << 16);
    }
}
