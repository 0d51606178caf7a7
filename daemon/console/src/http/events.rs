//! `GET /events`: what happens, as it happens (server-sent events, WHATWG HTML 9.2).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::StatusCode,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event as Message, KeepAlive},
    },
};
use futures_util::{StreamExt, stream};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use super::{places::Places, routes::refuse};
use crate::publish::{Published, Told};

/// Listeners at once: each may hold up to [`crate::publish`]'s waiting events. One more takes the place of
/// the oldest, which is told so and may come again.
pub(crate) const LISTENERS_MAX: usize = 16;

/// A comment this often shows both sides that the other is there.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn listen(published: &Published, places: &Places) -> Response {
    let Some(place) = places.take() else {
        // Never so: no listener is ever answered to its end.
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many listeners; try again soon");
    };
    let Some(receiver) = published.listen() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the supervisor is ending");
    };
    let place = Arc::new(place);
    let held = Arc::clone(&place);
    let messages = BroadcastStream::new(receiver).map(move |received| {
        // Moved in here, the place is kept until the stream is dropped.
        let _ = &held;
        message(received)
    });
    let messages = messages.take_until(async move { place.lost().await });
    let over = Message::default().comment("another listener needed this place");
    let messages = messages.chain(stream::iter([over])).map(Ok::<_, Infallible>);
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
