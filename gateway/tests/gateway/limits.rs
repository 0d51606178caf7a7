//! Bounds: the queue, time, connections, clients that go away, the end.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    http::joined,
    server::{Gateway, PATIENCE, Says, chat_body, completion_body},
};

#[tokio::test]
async fn a_client_that_goes_away_stops_the_engine() {
    let gateway = Gateway::start_with(
        Says::Text("the quick brown fox jumps over the lazy dog"),
        Some(5),
        |_| {},
    )
    .await;
    let mut stream = gateway.chat_stream(json!({"max_tokens": 400, "n": 2})).await;
    stream.text().await;
    drop(stream);
    gateway.rank.cancelled(0).await;
    gateway.rank.cancelled(1).await;

    // The same while it waits for a whole answer.
    {
        let whole = gateway.chat(json!({"max_tokens": 400}));
        tokio::select! {
            _ = whole => panic!("answered"),
            () = gateway.rank.submitted(3) => {}
        }
    }
    gateway.rank.cancelled(2).await;
}

#[tokio::test]
async fn more_choices_than_there_are_places_are_refused_for_good() {
    let one = |settings: &mut tandem_gateway::Settings| settings.max_queued = 1;
    let gateway = Gateway::start_with(Says::Text("the end"), None, one).await;
    let bad = "invalid_value";
    assert_eq!(gateway.chat(json!({"n": 2})).await.refusal(), (400, "n".into(), bad.into()));
    let two = completion_body(json!({"prompt": ["a", "b"]}));
    let refusal = gateway.post("/v1/completions", &two).await.refusal();
    assert_eq!(refusal, (400, "prompt".into(), bad.into()));
    assert_eq!(gateway.chat(json!({})).await.status, 200);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_takes_again_later() {
    let limits = |settings: &mut tandem_gateway::Settings| {
        settings.max_queued = 3;
        settings.max_submitted = 1;
    };
    let gateway = Gateway::start_with(Says::Text("the end"), Some(0), limits).await;
    let first = gateway.chat_stream(json!({"n": 2})).await;
    let second = gateway.chat_stream(json!({})).await;
    let refused = gateway.chat(json!({})).await;
    assert_eq!(refused.refusal(), (429, "-".into(), "queue_full".into()));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(gateway.rank.submits().len(), 1, "the others wait in the gateway");
    gateway.rank.allow(1_000);
    for stream in [first, second] {
        assert_eq!(joined(&stream.events().await, 0).1, "the end");
    }
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    assert_eq!(gateway.rank.active_max(), 1);
}

#[tokio::test]
async fn a_request_that_takes_too_long_ends_in_either_form() {
    let limits = |settings: &mut tandem_gateway::Settings| settings.request_timeout_ms = 1_000;
    let gateway =
        Gateway::start_with(Says::Text("the quick brown fox jumps"), Some(3), limits).await;
    let mut stream = gateway.chat_stream(json!({})).await;
    stream.text().await;
    let events = stream.events().await;
    assert_eq!(events.last().unwrap()["error"]["code"], "request_timeout");
    gateway.rank.cancelled(0).await;
    let answer = gateway.chat(json!({})).await;
    assert_eq!(answer.refusal(), (504, "-".into(), "request_timeout".into()));
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let limits = |settings: &mut tandem_gateway::Settings| settings.keep_alive_ms = 100;
    let gateway = Gateway::start_with(Says::Text("the end"), Some(0), limits).await;
    let mut stream = gateway.chat_stream(json!({})).await;
    assert!(stream.event().await.unwrap().contains("assistant"));
    assert_eq!(stream.event().await.unwrap(), ": keep-alive");
    gateway.rank.allow(100);
    assert_eq!(joined(&stream.events().await, 0).1, "the end");
}

#[tokio::test]
async fn a_reader_that_sleeps_delays_nobody() {
    let gateway = Gateway::start(Says::Drawn).await;
    let body = chat_body(json!({"stream": true, "max_tokens": 400, "logprobs": true})).to_string();
    let mut sleeper = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    sleeper.write_all(head.as_bytes()).await.unwrap();
    gateway.rank.submitted(1).await;
    assert_eq!(gateway.chat(json!({"max_tokens": 400})).await.status, 200);
    let mut text = String::new();
    let mut chunk = [0; 4096];
    while !text.contains("[DONE]") {
        let n = sleeper.read(&mut chunk).await.unwrap();
        assert_ne!(n, 0, "closed early");
        text += &String::from_utf8_lossy(&chunk[..n]);
    }
}

#[tokio::test]
async fn connections_are_bounded_and_slow_heads_are_cut() {
    let limits = |settings: &mut tandem_gateway::Settings| {
        settings.max_connections = 2;
        settings.read_timeout_ms = 300;
    };
    let gateway = Gateway::start_with(Says::Text("x"), None, limits).await;
    let mut slow = Vec::new();
    // Earlier connections may not be gone yet: take places until there is none.
    let refusal = loop {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"POST /v1/chat").await.unwrap();
        slow.push(stream);
        assert!(slow.len() < 50, "connections are not bounded");
        let probe = TcpStream::connect(gateway.address).await.unwrap();
        let mut probe = tokio::io::BufReader::new(probe);
        let mut answer = String::new();
        let read = probe.read_to_string(&mut answer);
        match tokio::time::timeout(Duration::from_millis(100), read).await {
            Ok(_) if answer.starts_with("HTTP/1.1 503") => break answer,
            _ => slow.push(probe.into_inner()),
        }
    };
    assert!(refusal.contains("too_many_connections") && refusal.contains("retry-after"));
    for mut stream in slow {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        end.expect("a slow head is never cut").ok();
    }
    gateway.until_health(200).await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let limits = |settings: &mut tandem_gateway::Settings| settings.read_timeout_ms = 300;
    let gateway = Gateway::start_with(Says::Text("x"), None, limits).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let mut gateway = Gateway::start_with(Says::Text("the end"), Some(1), |_| {}).await;
    let mut stream = gateway.chat_stream(json!({})).await;
    let mut text = stream.text().await;
    gateway.begin_shutdown();
    gateway.until_health(503).await;
    let refused = gateway.chat(json!({})).await;
    assert_eq!(refused.refusal(), (503, "-".into(), "draining".into()));
    gateway.rank.allow(100);
    text += &joined(&stream.events().await, 0).1;
    assert_eq!(text, "the end");
    gateway.ended().await;
}

#[tokio::test]
async fn draining_ends_in_bounded_time_whatever_runs() {
    let limits = |settings: &mut tandem_gateway::Settings| settings.drain_timeout_ms = 100;
    let mut gateway = Gateway::start_with(Says::Text("the quick brown fox"), Some(2), limits).await;
    let mut stream = gateway.chat_stream(json!({})).await;
    stream.text().await;
    gateway.begin_shutdown();
    let events = stream.events().await;
    assert_eq!(events.last().unwrap()["error"]["code"], "draining");
    let address = gateway.address;
    gateway.ended().await;
    assert!(TcpStream::connect(address).await.is_err());
}
