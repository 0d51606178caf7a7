//! `GET /events`: what happens, as it happens (server-sent events, WHATWG HTML 9.2).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::StatusCode,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event as Message, KeepAlive},
    },
};
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use super::routes::refuse;
use crate::publish::{Published, Told};

/// Listeners at once: each may hold up to [`crate::publish`]'s waiting events.
pub(crate) const LISTENERS_MAX: usize = 16;

/// A comment this often shows both sides that the other is there.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn listen(published: &Published, places: &Arc<Semaphore>) -> Response {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        let why = format!("{LISTENERS_MAX} clients listen already; close one");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &why);
    };
    let Some(receiver) = published.listen() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the supervisor is ending");
    };
    let messages = BroadcastStream::new(receiver).map(move |received| {
        // Moved in here, the place is kept until the stream is dropped.
        let _ = &place;
        Ok::<_, Infallible>(message(received))
    });
    Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn message(received: Result<Arc<Told>, BroadcastStreamRecvError>) -> Message {
    let told = match received {
        Ok(told) => told,
        Err(BroadcastStreamRecvError::Lagged(missed)) => return lagged(missed),
    };
    let json = serde_json::to_value(&told.event).unwrap_or_default();
    let kind = json.get("kind").and_then(serde_json::Value::as_str).unwrap_or("event");
    // JSON escapes line breaks, so the data is one line.
    Message::default().id(told.id.to_string()).event(kind).data(json.to_string())
}

fn lagged(missed: u64) -> Message {
    Message::default().event("lagged").data(format!("{{\"missed\":{missed}}}"))
}
