//! Bounds: the queue, time, connections, the end.

use std::time::Duration;

use serde_json::json;
use tandem_gateway::hash_api_key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    http::{joined, open},
    server::{Gateway, PATIENCE, Says, chat_body, completion_body},
};

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
async fn an_engine_that_gets_nothing_done_ends_a_request_in_either_form() {
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
async fn a_prompt_that_takes_longer_than_the_timeout_is_answered() {
    let limits = |settings: &mut tandem_gateway::Settings| {
        settings.request_timeout_ms = 1_000;
        settings.max_submitted = 1;
    };
    let gateway = Gateway::start_with(Says::Text("the end"), Some(0), limits).await;
    gateway.rank.change(|rank| rank.busy = true);
    let release = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        gateway.rank.allow(100);
    };
    // The second waits behind the first all the time.
    let (first, second, ()) =
        tokio::join!(gateway.chat(json!({})), gateway.chat(json!({})), release);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
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
async fn a_life_sign_is_data_where_the_owner_wants_it() {
    let limits = |settings: &mut tandem_gateway::Settings| {
        settings.keep_alive_ms = 100;
        settings.keep_alive = tandem_gateway::KeepAlive::Chunk;
    };
    let gateway = Gateway::start_with(Says::Text("the end"), Some(0), limits).await;
    let mut stream = gateway.chat_stream(json!({})).await;
    assert!(stream.event().await.unwrap().contains("assistant"));
    let sign: serde_json::Value = serde_json::from_str(&stream.event().await.unwrap()).unwrap();
    assert_eq!(sign["object"], "chat.completion.chunk");
    assert_eq!(sign["choices"][0]["delta"], json!({}));
    assert_eq!(sign["choices"][0]["finish_reason"], json!(null));
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

/// A connection on which so much is sent, and then nothing.
pub(super) async fn begin(gateway: &Gateway, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn who_only_holds_connections_keeps_nobody_out() {
    let limits = |settings: &mut tandem_gateway::Settings| settings.max_connections = 8;
    let gateway = Gateway::start_with(Says::Text("the end"), None, limits).await;
    let body = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n{";
    for kind in ["", "POST /v1/chat", body, "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut held = Vec::new();
        for _ in 0..40 {
            held.push(begin(&gateway, kind).await);
        }
        assert_eq!(gateway.chat(json!({})).await.status, 200, "{kind}");
        assert_eq!(gateway.get("/health").await.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn requests_that_do_not_arrive_whole_hold_only_so_much_memory() {
    const BODY_BYTES: usize = 30 << 20;
    let limits = |settings: &mut tandem_gateway::Settings| settings.max_body_bytes = 32 << 20;
    let gateway = Gateway::start_with(Says::Text("the end"), None, limits).await;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {BODY_BYTES}\r\n\r\n"
    );
    let all_but_one = vec![b' '; BODY_BYTES - 1];
    let (mut ends, mut writers) = (tokio::task::JoinSet::new(), Vec::new());
    for _ in 0..11 {
        let (mut reader, mut writer) = begin(&gateway, &head).await.into_split();
        // One that is given up takes no more.
        let _ = writer.write_all(&all_but_one).await;
        writers.push(writer);
        ends.spawn(async move {
            let mut answer = Vec::new();
            let _ = reader.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        });
    }
    // Eight of these are within 256 MiB. The others are given up, and nobody else notices.
    let mut next_end = async || {
        let end = tokio::time::timeout(PATIENCE, ends.join_next()).await;
        end.expect("never ended").unwrap().unwrap()
    };
    for _ in 8..11 {
        let end = next_end().await;
        assert!(!end.contains(" 400 "), "it was read to its end: {end}");
    }
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    for mut writer in writers {
        let _ = writer.write_all(b" ").await;
    }
    for _ in 0..8 {
        let end = next_end().await;
        assert!(end.contains(" 400 "), "it was within the bound: {end}");
    }
}

#[tokio::test]
async fn requests_under_way_are_bounded_but_not_the_supervisors() {
    let gateway = Gateway::start_as(Says::Text("the end"), Some(0), |setup| {
        setup.settings.max_connections = 2;
        setup.settings.max_submitted = 1;
        setup.settings.max_queued = 2;
        setup.settings.api_keys = vec![hash_api_key("client")];
        setup.canary_key_hash = Some(hash_api_key("canary"));
    })
    .await;
    let ask = async |key: &str, stream: bool| {
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        let body = chat_body(json!({"stream": stream})).to_string().into_bytes();
        open(gateway.address, "POST", "/v1/chat/completions", &headers, body).await
    };
    // Half of them for an address without a key.
    let first = gateway.chat_stream(json!({})).await;
    let refused = gateway.chat(json!({})).await;
    assert_eq!(refused.refusal(), (503, "-".into(), "too_many_connections".into()));
    assert!(refused.headers.contains_key("retry-after"));
    let second = ask("client", true).await;
    let refused = ask("client", true).await.whole().await;
    assert_eq!(refused.refusal(), (503, "-".into(), "too_many_connections".into()));
    assert_eq!(gateway.get("/health").await.status, 200);
    // All places are taken, in the queue too; the canary's are others, and it goes first.
    let canary = ask("canary", true).await;
    assert_eq!(canary.status, 200);
    gateway.rank.submitted(2).await;
    assert!(gateway.rank.submits()[1].urgent && !gateway.rank.submits()[0].urgent);
    gateway.rank.allow(100);
    for stream in [canary, first, second] {
        assert_eq!(joined(&stream.events().await, 0).1, "the end");
    }
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let limits = |settings: &mut tandem_gateway::Settings| settings.read_timeout_ms = 300;
    let gateway = Gateway::start_with(Says::Text("x"), None, limits).await;
    let mut slow = begin(&gateway, "POST /v1/chat").await;
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut rest)).await;
    end.expect("a slow head is never cut").ok();
}

#[tokio::test]
async fn what_is_no_http_is_refused_in_the_form_of_the_api() {
    let gateway = Gateway::start(Says::Text("x")).await;
    let long = "x".repeat(200_000);
    let crowd: String = (0..200).map(|n| format!("h{n}: x\r\n")).collect();
    for (text, status, code) in [
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400, "bad_request"),
        ("POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_owned(), 400, "bad_request"),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 414, "uri_too_long"),
        (format!("GET / HTTP/1.1\r\n{crowd}\r\n"), 431, "headers_too_large"),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        // The rest of a long one may meet a closed connection.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
        let body: serde_json::Value =
            serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["error"]["code"], code, "{answer}");
    }
}

#[tokio::test]
async fn a_target_with_another_host_needs_a_key_too() {
    let gateway = Gateway::start(Says::Text("x")).await;
    for (target, status) in [
        ("http://evil.example/v1/models", "403"),
        ("http://localhost:80/v1/models", "200"),
        ("/v1/models", "200"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut stream = begin(&gateway, &request).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[9..], status.as_bytes(), "{target}");
    }
}

#[tokio::test]
async fn a_prompt_over_the_context_is_refused_by_its_size_and_frees_its_places() {
    let limits = |settings: &mut tandem_gateway::Settings| settings.max_queued = 1;
    let gateway = Gateway::start_with(Says::Text("the end"), None, limits).await;
    for text in ["x ".repeat(1 << 20), "\u{1f600}".repeat(1 << 19), " ".repeat(1 << 21)] {
        let message = json!([{"role": "user", "content": text}]);
        let answer = gateway.chat(json!({"messages": message})).await;
        let expected = (400, "messages".into(), "context_length_exceeded".into());
        assert_eq!(answer.refusal(), expected);
    }
    assert_eq!(gateway.rank.submits().len(), 0);
    assert_eq!(gateway.chat(json!({})).await.status, 200);
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
