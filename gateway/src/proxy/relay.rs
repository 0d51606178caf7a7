//! The body of an answer, passed on as it comes: nothing is read before the client takes it.

use std::{io, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderMap, header::CONTENT_TYPE},
};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::{Proxy, events::Events, forward::Interruption, pool::Lease, upstream::Upstream};
use crate::{error::ApiError, record::Recorder, sse};

/// An answer under way. Dropping it closes the connection that it comes by.
pub(super) struct Relay {
    pub(super) body: Incoming,
    pub(super) lease: Lease,
    pub(super) proxy: Arc<Proxy>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) interruption: Interruption,
    /// Set for a stream of events.
    pub(super) events: Option<Events>,
    pub(super) recorder: Recorder,
    pub(super) _place: OwnedSemaphorePermit,
}

/// What comes next, and whether more will.
enum Next {
    Data(Bytes),
    End,
    Failed(ApiError),
}

/// The body that a client gets, whose answer has these headers.
pub(super) fn body(mut relay: Relay, headers: &HeaderMap) -> Body {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    relay.events = kind.starts_with("text/event-stream").then(Events::default);
    Body::from_stream(stream::unfold(Some(relay), |relay| async move {
        let mut relay = relay?;
        match relay.next().await {
            Next::Data(data) => Some((Ok(data), Some(relay))),
            Next::End => {
                let rest = relay.finish();
                rest.map(|rest| (Ok(rest), None))
            }
            Next::Failed(error) => relay.fail(&error).map(|last| (last, None)),
        }
    }))
}

impl Relay {
    async fn next(&mut self) -> Next {
        loop {
            let frame = tokio::select! {
                // What is there already goes on, however late.
                biased;
                frame = self.body.frame() => frame,
                error = self.interruption.wait() => return Next::Failed(error),
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                None => return Next::End,
                Some(Err(error)) => {
                    let address = self.upstream.address;
                    tracing::warn!(%address, "the node with rank 0 broke off an answer: {error}");
                    return Next::Failed(ApiError::unavailable(
                        "upstream_lost",
                        "The node with rank 0 was lost; try again soon.",
                    ));
                }
            };
            // The API has no trailers.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let data = match &mut self.events {
                Some(events) => events.push(data),
                None => data,
            };
            if !data.is_empty() {
                return Next::Data(data);
            }
        }
    }

    /// The answer is whole: its connection may be used again.
    fn finish(mut self) -> Option<Bytes> {
        self.recorder.forget();
        let rest = self.events.map(|mut events| events.rest());
        self.proxy.pool.keep(self.lease);
        rest.filter(|rest| !rest.is_empty())
    }

    /// The last of an answer that is cut off. A stream says so as one that fails here would; of
    /// anything else the client sees that it is not whole, because its connection is cut.
    fn fail(self, error: &ApiError) -> Option<Result<Bytes, io::Error>> {
        match self.events {
            Some(events) if events.is_over() => None,
            Some(_) => Some(Ok(sse::last_words(error).into())),
            None => Some(Err(io::Error::other(error.message.clone()))),
        }
    }
}
