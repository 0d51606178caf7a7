//! The connections of a process as its tasks see them; what is decided about them is in
//! [`crate::connections`].

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{body::Body, http::header::CONNECTION, response::Response};
use bytes::Bytes;
use hyper::{
    body::{Frame, SizeHint},
    http::HeaderValue,
};
use tokio::sync::Notify;

use crate::{
    connections::{Connections, Standing},
    error::ApiError,
    half_close::Exchange,
};

type Shared = Arc<Mutex<Connections<Arc<Notify>>>>;

/// All connections.
pub(crate) struct Table(Shared);

/// One connection, and an extension of each request on it. It is forgotten with the last copy.
#[derive(Clone)]
pub(crate) struct Arrival(Arc<Entry>);

struct Entry {
    connections: Shared,
    id: u64,
    is_reserve: bool,
}

impl Table {
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Mutex::new(Connections::new(max))))
    }

    /// Takes a connection, if need be in place of another, whose task is told; `None`: there is no
    /// room.
    pub(crate) fn enter(&self, from: IpAddr, given_up: &Arc<Notify>) -> Option<Arrival> {
        let taken = lock(&self.0).enter(from, Arc::clone(given_up))?;
        if let Some(evicted) = taken.evicted {
            evicted.notify_one();
        }
        let connections = Arc::clone(&self.0);
        Some(Arrival(Arc::new(Entry { connections, id: taken.id, is_reserve: taken.is_reserve })))
    }
}

impl Arrival {
    /// Whether a request of this standing may be read on here.
    pub(crate) fn admits(&self, standing: Standing) -> Result<(), ApiError> {
        if self.0.is_reserve && standing != Standing::Canary {
            return Err(too_many("Too many open connections; try again soon."));
        }
        Ok(())
    }

    /// More of the request's body arrived, and is kept.
    pub(crate) fn grows(&self, bytes: usize) -> Result<(), ApiError> {
        let evicted = lock(&self.0.connections).grows(self.0.id, bytes);
        let reason = "Too many large requests are arriving at once; try again soon.";
        evicted.ok_or_else(|| too_many(reason))?.iter().for_each(|gone| gone.notify_one());
        Ok(())
    }

    /// The request has arrived whole: gives it its place.
    pub(crate) fn whole(&self, standing: Standing) -> Result<(), ApiError> {
        if lock(&self.0.connections).arrived(self.0.id, standing) {
            return Ok(());
        }
        Err(too_many("Too many requests from this address are under way; try again soon."))
    }

    /// The answer, with which the request gives its place back.
    pub(crate) fn answered(self, mut answer: Response, exchange: Exchange) -> Response {
        exchange.answered();
        if self.0.is_reserve {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer.map(|body| Body::new(Answer { body, _end: End(self, exchange) }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.connections).leave(self.id);
    }
}

fn too_many(reason: &str) -> ApiError {
    ApiError::unavailable("too_many_connections", reason)
}

fn lock(connections: &Shared) -> std::sync::MutexGuard<'_, Connections<Arc<Notify>>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of an answer. Dropped when all of it was taken to be sent, or the client is gone.
struct Answer {
    body: Body,
    _end: End,
}

struct End(Arrival, Exchange);

impl Drop for End {
    fn drop(&mut self) {
        let Entry { connections, id, .. } = &*self.0.0;
        lock(connections).idle(*id);
        self.1.end();
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
