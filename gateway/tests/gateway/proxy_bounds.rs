//! A proxy's own bounds: keys, sizes, times, places, backpressure, the end.

use serde_json::json;
use tandem_gateway::hash_api_key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    http::{joined, open},
    pair::{PAIR_KEY, Proxy, pair},
    server::{PATIENCE, Says, chat_body},
};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn clients_show_their_keys_to_the_proxy() {
    let (gateway, proxy) = pair(Says::Text("x"), None, |setup| {
        setup.settings.api_keys = vec![hash_api_key("client")];
        setup.settings.require_key_on_loopback = true;
        setup.canary_key_hash = Some(hash_api_key("canary"));
    })
    .await;
    let ask = async |path: &str, key: &str| {
        let value = format!("Bearer {key}");
        let headers = [("authorization", value.as_str())];
        open(proxy.address, "GET", path, &headers, vec![]).await.whole().await
    };
    for (path, key, status) in [
        ("/v1/models", "client", 200),
        ("/v1/models", "canary", 200),
        ("/v1/models", "other", 401),
        ("/v1/models", PAIR_KEY, 401),
        ("/nowhere", "other", 401),
        ("/nowhere", "client", 404),
        ("/health", "other", 200),
    ] {
        let answer = ask(path, key).await;
        assert_eq!(answer.status, status, "{path} {key}");
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    }
    assert_eq!(proxy.get("/v1/models").await.status, 401, "no key at all");
    assert_eq!(gateway.rank.submits(), []);
}

#[tokio::test]
async fn names_of_other_hosts_do_not_come_in_without_a_key() {
    let (_gateway, proxy) = pair(Says::Text("x"), None, |_| {}).await;
    for (host, status) in [("localhost:1", 200), ("evil.example", 403)] {
        let headers = [("host", host)];
        let answer = open(proxy.address, "GET", "/v1/models", &headers, vec![]).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn bodies_that_are_too_large_or_too_slow_are_refused_before_they_go_on() {
    let (gateway, proxy) = pair(Says::Text("x"), None, |setup| {
        setup.settings.max_body_bytes = 4096;
        setup.settings.read_timeout_ms = 300;
    })
    .await;
    let large = chat_body(json!({"user": "x".repeat(5_000)}));
    let refused = proxy.post(CHAT, &large).await;
    assert_eq!(refused.refusal(), (413, "-".into(), "body_too_large".into()));

    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");

    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"POST /v1/chat").await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    end.expect("a slow head is never cut").ok();
    assert_eq!(gateway.rank.submits(), []);
}

#[tokio::test]
async fn requests_under_way_are_bounded() {
    let (gateway, proxy) = pair(Says::Text("the end"), Some(0), |setup| {
        setup.settings.max_queued = 2;
    })
    .await;
    let first = proxy.chat_stream(json!({})).await;
    let second = proxy.chat_stream(json!({})).await;
    let refused = proxy.chat(json!({})).await;
    assert_eq!(refused.refusal(), (429, "-".into(), "queue_full".into()));
    assert!(refused.headers.contains_key("retry-after"));
    gateway.rank.allow(1_000);
    for stream in [first, second] {
        assert_eq!(joined(&stream.events().await, 0).1, "the end");
    }
    assert_eq!(proxy.chat(json!({})).await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_flow_and_delays_nobody() {
    /// Far more than all sockets' buffers on the way hold.
    const ENDLESS_BYTES: usize = 256 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(|_| {}).await;
    proxy.point_at(listener.local_addr().unwrap(), PAIR_KEY);
    let mut sleeper = TcpStream::connect(proxy.address).await.unwrap();
    let asked = tokio::spawn(async move {
        // Until the proxy knows where to ask.
        loop {
            sleeper.write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut status = [0; 12];
            sleeper.read_exact(&mut status).await.unwrap();
            if &status == b"HTTP/1.1 200" {
                return sleeper;
            }
            sleeper = TcpStream::connect(proxy.address).await.unwrap();
        }
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    // The proxy asks now and then whether this gateway lives.
    tokio::spawn(async move {
        loop {
            let (mut probe, _) = listener.accept().await.unwrap();
            let alive = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            tokio::spawn(async move {
                assert_ne!(probe.read(&mut [0; 1024]).await.unwrap(), 0);
                probe.write_all(alive).await.unwrap();
            });
        }
    });
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let event = format!("data: {}\n\n", "x".repeat(1 << 16));
    let mut sent = 0;
    // It flows no more once a write waits for long.
    let patience = std::time::Duration::from_secs(1);
    while sent < ENDLESS_BYTES {
        match tokio::time::timeout(patience, stream.write_all(event.as_bytes())).await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        sent += event.len();
    }
    assert!(sent < ENDLESS_BYTES, "the proxy reads what its client does not");
    drop(asked.await.unwrap());
    // Its client's end ends the connection here too.
    let end = async { while stream.write_all(event.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, end).await.expect("the proxy keeps the connection");
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let (gateway, mut proxy) = pair(Says::Text("the end"), Some(1), |_| {}).await;
    let mut stream = proxy.chat_stream(json!({})).await;
    let mut text = stream.text().await;
    proxy.begin_shutdown();
    proxy.until_health(503).await;
    let refused = proxy.chat(json!({})).await;
    assert_eq!(refused.refusal(), (503, "-".into(), "draining".into()));
    assert!(refused.headers.contains_key("retry-after"));
    gateway.rank.allow(100);
    text += &joined(&stream.events().await, 0).1;
    assert_eq!(text, "the end");
    proxy.ended().await;
    assert_eq!(gateway.chat(json!({})).await.status, 200, "the other one serves on");
}

#[tokio::test]
async fn draining_ends_in_bounded_time_whatever_runs() {
    let limits = |setup: &mut tandem_gateway::ProxySetup| setup.settings.drain_timeout_ms = 100;
    let (gateway, mut proxy) = pair(Says::Text("the quick brown fox"), Some(2), limits).await;
    let mut stream = proxy.chat_stream(json!({})).await;
    stream.text().await;
    let stop = proxy.stop.take().unwrap();
    let whole = proxy.chat(json!({}));
    let shutdown = async {
        gateway.rank.submitted(2).await;
        stop.send(()).unwrap();
    };
    let (whole, ()) = tokio::join!(whole, shutdown);
    assert_eq!(whole.refusal(), (503, "-".into(), "draining".into()));
    let events = stream.events().await;
    assert_eq!(events.last().unwrap()["error"]["code"], "draining");
    for submission in [0, 1] {
        gateway.rank.cancelled(submission).await;
    }
    proxy.ended().await;
}
