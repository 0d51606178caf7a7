//! The other gateway is away, refuses, dies or falls silent, and clients of the proxy are told.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{
    pair::{PAIR_KEY, Proxy, free_address, pair, replace, serving},
    server::{PATIENCE, Says},
};

/// Plays the other gateway: `answer` gets the path of each request, its head and body read, and the
/// connection.
async fn played<F>(answer: impl Fn(String, TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let (mut first, mut length) = (String::new(), 0);
            stream.read_line(&mut first).await.unwrap();
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap() > 2 {
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            stream.read_exact(&mut vec![0; length]).await.unwrap();
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            tokio::spawn(answer(path, stream.into_inner()));
        }
    });
    address
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"the\"}}]}\n\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn without_the_other_gateway_it_says_that_it_is_not_ready() {
    let proxy = Proxy::start(|_| {}).await;
    let written = [
        (None, "not known yet"),
        (Some(format!("{{\"address\":\"{}\",\"key\":\"k\"}}", free_address())), "can't be reached"),
        (Some("{\"address\":\"nowhere\",\"key\":\"secret\"}".into()), "can't be used"),
    ];
    for (text, reason) in written {
        if let Some(text) = text {
            replace(&proxy.upstream_file, &text);
        }
        // The file is not looked at for each request.
        let answer = loop {
            let answer = proxy.chat(json!({})).await;
            if answer.json()["error"]["message"].to_string().contains(reason) {
                break answer;
            }
        };
        assert_eq!(answer.refusal(), (503, "-".into(), "not_ready".into()));
        assert!(answer.headers.contains_key("retry-after"));
        assert!(!answer.json().to_string().contains("secret"));
        let health = proxy.get("/health").await;
        assert_eq!(health.status, 503);
        assert!(health.headers.contains_key("retry-after"));
        assert!(health.json()["reason"].to_string().contains(reason), "{}", health.json());
    }
}

#[tokio::test]
async fn a_key_that_is_refused_is_no_fault_of_the_client_and_a_new_one_is_read() {
    let (gateway, address) = serving(Says::Text("the end"), None, "new-key").await;
    let proxy = Proxy::start(|_| {}).await;
    proxy.point_at(address, "old-key");
    let answer = loop {
        let answer = proxy.chat(json!({})).await;
        if !answer.json().to_string().contains("not known yet") {
            break answer;
        }
    };
    assert_eq!(answer.refusal(), (503, "-".into(), "not_ready".into()));
    assert!(answer.json()["error"]["message"].to_string().contains("refuses this node's key"));
    assert_eq!(proxy.get("/health").await.status, 503);
    assert_eq!(gateway.rank.submits(), []);

    proxy.point_at(address, "new-key");
    proxy.until_health(200).await;
    assert_eq!(proxy.chat(json!({})).await.status, 200);
}

#[tokio::test]
async fn a_new_file_leads_to_another_gateway_while_old_streams_go_on() {
    let (old, proxy) = pair(Says::Text("the old"), Some(1), |_| {}).await;
    let mut stream = proxy.chat_stream(json!({})).await;
    let mut text = stream.text().await;
    let (_new, address) = serving(Says::Text("the new"), None, "rotated").await;
    proxy.point_at(address, "rotated");
    let answer = loop {
        let before = old.rank.submits().len();
        assert!(before < 200, "the new file is never read");
        tokio::select! {
            answer = proxy.chat(json!({})) => break answer,
            // Still the old one, which has no more tokens for anybody.
            () = old.rank.submitted(before + 1) => tokio::time::sleep(PAUSE).await,
        }
    };
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "the new");
    old.rank.allow(100);
    text += &super::http::joined(&stream.events().await, 0).1;
    assert_eq!(text, "the old");
}

#[tokio::test]
async fn a_stream_whose_gateway_dies_ends_with_an_error_event() {
    let (gateway, proxy) = pair(Says::Text("the quick brown fox"), Some(3), |_| {}).await;
    let mut stream = proxy.chat_stream(json!({})).await;
    stream.text().await;
    let whole = proxy.chat(json!({}));
    let kill = async {
        gateway.rank.submitted(2).await;
        gateway.kill();
    };
    let (whole, ()) = tokio::join!(whole, kill);
    assert_eq!(whole.refusal(), (503, "-".into(), "not_ready".into()));
    assert!(whole.headers.contains_key("retry-after"));
    let events = stream.events().await;
    let error = &events.last().unwrap()["error"];
    assert_eq!(error["code"], "upstream_lost", "{error}");
    assert!(error["message"].is_string() && error["type"].is_string() && error["param"].is_null());
    proxy.until_health(503).await;
}

#[tokio::test]
async fn half_an_event_is_never_passed_on() {
    let address = played(|_, mut stream| async move {
        let event = chunk(EVENT) + &chunk("data: {\"choices\":[{\"del");
        stream.write_all((STREAM_HEAD.to_owned() + &event).as_bytes()).await.unwrap();
    })
    .await;
    let proxy = Proxy::start(|_| {}).await;
    proxy.point_at(address, PAIR_KEY);
    let events = proxy.chat_stream(json!({})).await.events().await;
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[1]["error"]["code"], "upstream_lost");
}

#[tokio::test]
async fn an_answer_cut_off_in_its_body_is_seen_to_be() {
    let address = played(|_, mut stream| async move {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
        stream.write_all((head.to_owned() + "{\"a\"").as_bytes()).await.unwrap();
    })
    .await;
    let proxy = Proxy::start(|_| {}).await;
    proxy.point_at(address, PAIR_KEY);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer)).await;
    end.expect("the connection stays open").ok();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("content-length: 9"), "{answer}");
    assert!(!answer.ends_with('}'), "{answer}");
}

#[tokio::test]
async fn what_waits_for_a_gateway_that_fell_silent_is_ended() {
    let address = played(|path, mut stream| async move {
        if path == "/v1/chat/completions" {
            stream.write_all((STREAM_HEAD.to_owned() + &chunk(EVENT)).as_bytes()).await.unwrap();
        }
        // As a machine without power does: nothing, and the connection stays open.
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let proxy = Proxy::start(|_| {}).await;
    proxy.point_at(address, PAIR_KEY);
    let stream = async { proxy.chat_stream(json!({})).await.events().await };
    let (events, whole) = tokio::join!(stream, proxy.get("/v1/models"));
    assert_eq!(events.last().unwrap()["error"]["code"], "not_ready", "{events:?}");
    assert_eq!(whole.refusal(), (503, "-".into(), "not_ready".into()));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_not_the_clients_problem() {
    // Each connection answers once as one that may be kept, and is closed.
    let address = played(|_, mut stream| async move {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(head.as_bytes()).await.unwrap();
    })
    .await;
    let proxy = Proxy::start(|_| {}).await;
    proxy.point_at(address, PAIR_KEY);
    proxy.until_health(200).await;
    for _ in 0..50 {
        assert_eq!(proxy.get("/v1/models").await.status, 200);
    }
}
