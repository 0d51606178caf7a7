//! What clients see of a proxy is what they see of the gateway behind it.

use serde_json::{Value, json};

use super::{
    http::{Answer, Headers, joined, open},
    pair::pair,
    server::{Client, Says, chat_body, completion_body},
};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// The body with what is drawn anew for each answer taken out.
fn settled(answer: &Answer) -> String {
    let mut text = String::from_utf8(answer.body.clone()).unwrap();
    for (mark, digits) in [("cmpl-", 32), ("\"created\":", 10)] {
        let mut settled = String::new();
        let mut parts = text.split(mark);
        settled += parts.next().unwrap();
        for part in parts {
            settled += mark;
            settled += &part[digits..];
        }
        text = settled;
    }
    text
}

#[tokio::test]
async fn every_answer_is_the_other_gateways_byte_for_byte() {
    let (gateway, proxy) = pair(Says::Text("the quick fox"), None, |_| {}).await;
    let json: &[_] = &[("content-type", "application/json"), ("x-request-id", "abc")];
    let chat = |more: Value| chat_body(more).to_string().into_bytes();
    let text = |more: Value| completion_body(more).to_string().into_bytes();
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    // Method, path, headers, body, status.
    type Row<'a> = (&'a str, &'a str, Headers<'a>, Vec<u8>, u16);
    let rows: Vec<Row<'_>> = vec![
        ("POST", CHAT, json, chat(json!({})), 200),
        ("POST", CHAT, json, chat(json!({"n": 3, "logprobs": true, "top_logprobs": 2})), 200),
        ("POST", CHAT, json, chat(json!({"stream": true})), 200),
        ("POST", CHAT, json, chat(usage), 200),
        ("POST", TEXT, json, text(json!({})), 200),
        ("POST", TEXT, json, text(json!({"stream": true, "logprobs": 1})), 200),
        ("GET", "/v1/models", json, vec![], 200),
        ("GET", "/v1/models?limit=1", json, vec![], 200),
        ("GET", "/v1/models/tiny/model", json, vec![], 200),
        ("HEAD", "/v1/models", json, vec![], 200),
        ("GET", "/v1/models/other", json, vec![], 404),
        ("POST", CHAT, json, chat(json!({"model": "other"})), 404),
        ("POST", CHAT, json, chat(json!({"temperature": 9})), 400),
        ("POST", CHAT, json, b"{\"model\":".to_vec(), 400),
        ("POST", CHAT, &[("x-request-id", "abc")], chat(json!({})), 415),
        ("GET", CHAT, json, vec![], 405),
        ("DELETE", "/v1/models", json, vec![], 405),
        ("POST", "/health", json, vec![], 405),
        ("GET", "/", json, vec![], 404),
        ("POST", "/v1/embeddings?a=b", json, chat(json!({})), 404),
    ];
    for (method, path, headers, body, status) in rows {
        let ask = async |client: &Client| {
            open(client.address, method, path, headers, body.clone()).await.whole().await
        };
        let (direct, proxied) = (ask(&gateway).await, ask(&proxy).await);
        assert_eq!(proxied.status, status, "{method} {path}");
        assert_eq!(proxied.status, direct.status, "{method} {path}");
        assert_eq!(settled(&proxied), settled(&direct), "{method} {path}");
        let [mut from_gateway, mut from_proxy] = [direct.headers, proxied.headers];
        for headers in [&mut from_gateway, &mut from_proxy] {
            assert!(headers.remove("date").is_some(), "{method} {path}");
        }
        assert_eq!(from_proxy, from_gateway, "{method} {path}");
    }
}

#[tokio::test]
async fn a_stream_comes_as_it_is_made() {
    let (gateway, proxy) = pair(Says::Text("the quick brown fox"), Some(1), |_| {}).await;
    let mut stream = proxy.chat_stream(json!({})).await;
    let mut text = stream.text().await;
    assert!(!text.is_empty() && text != "the quick brown fox", "{text}");
    gateway.rank.allow(100);
    text += &joined(&stream.events().await, 0).1;
    assert_eq!(text, "the quick brown fox");
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_engine_behind_the_proxy() {
    let (gateway, proxy) =
        pair(Says::Text("the quick brown fox jumps over the lazy dog"), Some(5), |_| {}).await;
    let mut stream = proxy.chat_stream(json!({"max_tokens": 400})).await;
    stream.text().await;
    drop(stream);
    gateway.rank.cancelled(0).await;

    // The same while it waits for a whole answer.
    {
        let whole = proxy.chat(json!({"max_tokens": 400}));
        tokio::select! {
            _ = whole => panic!("answered"),
            () = gateway.rank.submitted(2) => {}
        }
    }
    gateway.rank.cancelled(1).await;
}

#[tokio::test]
async fn many_clients_at_once_each_get_their_own() {
    let (gateway, proxy) = pair(Says::Drawn, None, |_| {}).await;
    let text = async |client: &Client, seed: u64| {
        let stream = seed.is_multiple_of(2);
        let body = chat_body(json!({"seed": seed, "max_tokens": 20, "stream": stream}));
        if stream {
            return joined(&client.open(CHAT, &body).await.events().await, 0).1;
        }
        let answer = client.post(CHAT, &body).await.json();
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    let proxied = futures_util::future::join_all((0..40).map(|seed| text(&proxy, seed))).await;
    for (seed, proxied) in (0..40).zip(proxied) {
        assert_eq!(proxied, text(&gateway, seed).await, "seed {seed}");
    }
}

#[tokio::test]
async fn its_health_is_the_other_gateways() {
    let (gateway, proxy) = pair(Says::Text("x"), None, |_| {}).await;
    let health = proxy.get("/health").await;
    let mut expected = gateway.get("/health").await.json();
    expected["proxied_by"] = "second".into();
    assert_eq!((health.status.as_u16(), health.json()), (200, expected));

    gateway.rank.crash(tandem_wire::Phase::Loading);
    proxy.until_health(503).await;
    loop {
        let health = proxy.get("/health").await;
        assert!(health.headers.contains_key("retry-after"));
        if health.json()["phase"] == "loading" {
            let reason = health.json()["reason"].to_string();
            assert!(reason.contains("being loaded"), "{reason}");
            break;
        }
    }
    gateway.rank.set_phase(tandem_wire::Phase::Ready);
    proxy.until_health(200).await;
}
