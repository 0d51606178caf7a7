//! The status endpoint, asked over real sockets.

#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, time::Duration};

use tandem_console::{Build, Publisher, http};
use tandem_policy::{Event, Status, What};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// What any of these tests may take before it counts as hung.
const LONG: Duration = Duration::from_secs(30);

async fn started() -> (Publisher, SocketAddr) {
    let publisher = Publisher::new(Build { version: "0.1.0".into() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(http::serve(listener, publisher.published()));
    (publisher, address)
}

/// A status as it was published once, by its JSON.
fn status() -> Status {
    serde_json::from_str(include_str!("status.json")).unwrap()
}

fn order(n: u64, text: &str) -> Event {
    Event { wall_ms: n, boot_ms: n, what: What::Order { order: text.into() } }
}

/// Sends these bytes and returns all that comes until the server closes.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has answered already may close before it has read all.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let answer = raw(address, &request).await;
    (code(&answer), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap()
}

#[tokio::test]
async fn before_the_first_turn_it_lives_and_is_not_ready() {
    let (_publisher, address) = started().await;
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".into()));
    let (code, why) = get(address, "/readyz").await;
    assert_eq!((code, why.as_str()), (503, "the supervisor has published no status yet\n"));
    assert_eq!(get(address, "/status").await.0, 503);
    let (code, metrics) = get(address, "/metrics").await;
    assert_eq!(code, 200);
    assert!(metrics.contains("tandem_build_info{version=\"0.1.0\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn the_status_comes_as_it_was_published() {
    let (publisher, address) = started().await;
    publisher.publish(status());
    let (code, json) = get(address, "/status").await;
    assert_eq!(code, 200);
    assert_eq!(json, serde_json::to_string(&status()).unwrap());
    assert_eq!(get(address, "/readyz").await, (200, "ready\n".into()));
    let (code, metrics) = get(address, "/metrics").await;
    assert_eq!(code, 200);
    assert!(metrics.contains("tandem_engine_state{state=\"serving\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_status_that_is_not_renewed_stops_being_ready() {
    let (publisher, address) = started().await;
    publisher.publish(status());
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    let (code, why) = get(address, "/readyz").await;
    assert_eq!(code, 503, "{why}");
    assert!(why.ends_with("the supervisor is stuck\n"), "{why}");
    // It is still shown, with its age.
    let request = "GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = raw(address, request).await;
    let age = answer.split("\r\nage: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(age.parse::<u64>().unwrap() >= 5, "{answer}");
    publisher.publish(status());
    assert_eq!(get(address, "/readyz").await.0, 200);
}

#[tokio::test]
async fn what_is_not_asked_rightly_is_refused() {
    let (publisher, address) = started().await;
    publisher.publish(status());
    let long = "x".repeat(20 << 10);
    let cases = [
        ("GET /nothing HTTP/1.1\r\nhost: localhost\r\n", 404, "no such path"),
        ("GET / HTTP/1.1\r\nhost: localhost\r\n", 404, "no such path"),
        ("GET /status/ HTTP/1.1\r\nhost: localhost\r\n", 404, "no such path"),
        ("POST /status HTTP/1.1\r\nhost: localhost\r\n", 405, "read only"),
        ("DELETE /events HTTP/1.1\r\nhost: localhost\r\n", 405, "read only"),
        ("GET /status HTTP/1.1\r\nhost: evil.example\r\n", 403, "no other name"),
        ("GET /status HTTP/1.1\r\nhost: evil.example:80\r\n", 403, "no other name"),
        ("GET /nothing HTTP/1.1\r\nhost: evil.example\r\n", 403, "no other name"),
        ("GET /status HTTP/1.1\r\n", 403, "no other name"),
        ("GET /status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n", 413, "no body"),
        (
            "POST /status HTTP/1.1\r\nhost: [::1]:1\r\ntransfer-encoding: chunked\r\n",
            413,
            "no body",
        ),
        (&format!("GET /status HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n"), 431, ""),
        ("NONSENSE\r\n", 400, ""),
    ];
    for (head, expected, says) in cases {
        let answer = raw(address, &format!("{head}connection: close\r\n\r\n")).await;
        assert_eq!(code(&answer), expected, "{head:.60}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        if !says.is_empty() {
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(json["error"].as_str().unwrap().contains(says), "{head}: {body}");
        }
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let (_publisher, address) = started().await;
    let unfinished = ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: loc"];
    // All wait at once.
    let answers = unfinished.map(|sent| tokio::spawn(read_to_end_after(address, sent)));
    for (sent, answer) in unfinished.iter().zip(answers) {
        let answer = answer.await.unwrap();
        assert!(!answer.contains("200"), "{sent:?}: {answer}");
    }
}

/// Sends a part of a request and waits for the server to close.
async fn read_to_end_after(address: SocketAddr, sent: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(LONG, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "still open after {sent:?}");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_nobody_out() {
    let (publisher, address) = started().await;
    publisher.publish(status());
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    for _ in 0..10 {
        assert_eq!(get(address, "/status").await.0, 200);
    }
    // The oldest were cut off, and so is who has asked something and now keeps its place for nothing.
    let mut cut = idle.remove(0);
    assert_eq!(timeout(LONG, cut.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    let mut kept = TcpStream::connect(address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1 << 10];
    assert!(timeout(LONG, kept.read(&mut answer)).await.unwrap().unwrap() > 0);
    for _ in 0..64 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(get(address, "/status").await.0, 200);
    assert_eq!(timeout(LONG, kept.read(&mut answer)).await.unwrap().unwrap_or(0), 0);
}

/// An open event stream.
struct Listener {
    stream: TcpStream,
    text: String,
}

impl Listener {
    async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut listener = Self { stream, text: String::new() };
        listener.read_until("\r\n\r\n").await;
        listener
    }

    /// Reads on until all that was read holds this.
    async fn read_until(&mut self, wanted: &str) {
        let mut from = 0;
        let mut bytes = vec![0; 1 << 16];
        while !self.text[from..].contains(wanted) {
            from = self.text.len().saturating_sub(wanted.len());
            let read = timeout(LONG, self.stream.read(&mut bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("no {wanted:?}")).unwrap();
            assert!(read > 0, "closed before {wanted:?}: {:.2000}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }
}

#[tokio::test]
async fn events_come_as_they_happen() {
    let (mut publisher, address) = started().await;
    // Nobody listens yet, so nobody is told.
    publisher.tell(order(1, "drain"));
    let mut listener = Listener::open(address).await;
    assert!(listener.text.contains("text/event-stream"), "{}", listener.text);
    publisher.tell(order(2, "two\nlines"));
    publisher.tell(order(3, "resume"));
    listener.read_until("\"resume\"").await;
    let text = &listener.text;
    assert!(!text.contains("drain"), "{text}");
    let (_, first) = text.split_once("id: 2\nevent: order\ndata: ").unwrap();
    let data: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    let expected = serde_json::json!({
        "boot_ms": 2, "wall_ms": 2, "kind": "order", "order": "two\nlines",
    });
    assert_eq!(data, expected);
    assert!(text.contains("id: 3\nevent: order\n"), "{text}");
}

#[tokio::test]
async fn one_listener_more_takes_the_place_of_the_oldest() {
    let (mut publisher, address) = started().await;
    let mut listeners = Vec::new();
    for _ in 0..17 {
        let listener = Listener::open(address).await;
        assert_eq!(code(&listener.text), 200);
        listeners.push(listener);
    }
    let mut oldest = listeners.remove(0);
    oldest.read_until("another listener needed this place").await;
    // The other paths are not theirs to take, and the others go on.
    assert_eq!(get(address, "/healthz").await.0, 200);
    publisher.tell(order(1, "for all that are left"));
    for listener in &mut listeners {
        listener.read_until("for all that are left").await;
    }
}

#[tokio::test]
async fn a_slow_listener_is_told_what_it_missed_and_goes_on() {
    let (mut publisher, address) = started().await;
    let mut listener = Listener::open(address).await;
    // More than the sockets' buffers and the queue hold together.
    let large = "x".repeat(64 << 10);
    for n in 0..1_000 {
        publisher.tell(order(n, &large));
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    publisher.tell(order(1_000, "the last"));
    listener.read_until("\"the last\"").await;
    let lagged = listener.text.find("event: lagged\ndata: {\"missed\":").unwrap();
    let last = listener.text.find("\"the last\"").unwrap();
    assert!(lagged < last);
}

#[tokio::test]
async fn the_stream_ends_with_the_supervisor() {
    let (publisher, address) = started().await;
    let mut listener = Listener::open(address).await;
    drop(publisher);
    // The last chunk: the body is over, and not cut off.
    listener.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn only_loopback_is_served() {
    let publisher = Publisher::new(Build { version: "0.1.0".into() });
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = http::serve(listener, publisher.published()).await.unwrap_err();
    assert!(error.to_string().contains("is not a loopback address"), "{error}");
}
