//! A small HTTP client, and the reading of event streams.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::server::PATIENCE;

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Status, `error.param`, `error.code`.
    pub(crate) fn refusal(&self) -> (u16, String, String) {
        let json = self.json();
        let error = &json["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        assert!(error["type"].is_string(), "{json}");
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        (self.status.as_u16(), text(&error["param"]), text(&error["code"]))
    }
}

/// An answer that still arrives. Dropping it closes the connection.
pub(crate) struct Arriving {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    text: String,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Names and values.
pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

/// Sends a request with a whole body, on a connection of its own.
pub(crate) async fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: Headers<'_>,
    body: Vec<u8>,
) -> Arriving {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let (status, headers) = (parts.status, parts.headers);
    Arriving { status, headers, body, text: String::new(), connection }
}

impl Arriving {
    /// Waits for the rest.
    pub(crate) async fn whole(mut self) -> Answer {
        let mut bytes = self.text.split_off(0).into_bytes();
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.unwrap().into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        Answer { status: self.status, headers: self.headers.clone(), body: bytes }
    }

    /// The next event's data, or the next comment with its colon; `None` at the end.
    pub(crate) async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let event = event.trim_end();
                return Some(event.strip_prefix("data: ").unwrap_or(event).to_owned());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame());
            let frame = frame.await.unwrap_or_else(|_| panic!("silence after {:?}", self.text));
            let data = frame?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).expect("a character was split"));
        }
    }

    /// Events until some text of choice 0 came; gives that text.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            let event = self.event().await.expect("the stream ended");
            let Ok(chunk) = serde_json::from_str::<Value>(&event) else {
                continue;
            };
            let choice = &chunk["choices"][0];
            let text = choice["text"].as_str().or(choice["delta"]["content"].as_str());
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                return text.to_owned();
            }
        }
    }

    /// All further events; the last one must be `[DONE]`.
    pub(crate) async fn events(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            match self.event().await.expect("the stream ended without [DONE]").as_str() {
                "[DONE]" => return events,
                comment if comment.starts_with(':') => {}
                event => events.push(serde_json::from_str(event).unwrap()),
            }
        }
    }
}

/// What a stream said of one choice, put together: reasoning, content (or text), finish reason.
pub(crate) fn joined(events: &[Value], index: u64) -> (String, String, String) {
    let (mut reasoning, mut content, mut finish) = (String::new(), String::new(), String::new());
    for event in events {
        assert!(event.get("error").is_none(), "{event}");
        for choice in event["choices"].as_array().unwrap() {
            if choice["index"] != index {
                continue;
            }
            assert_eq!(finish, "", "something came after the finish reason");
            let delta = &choice["delta"];
            reasoning += delta["reasoning_content"].as_str().unwrap_or_default();
            content += delta["content"].as_str().or(choice["text"].as_str()).unwrap_or_default();
            finish += choice["finish_reason"].as_str().unwrap_or_default();
        }
    }
    (reasoning, content, finish)
}
