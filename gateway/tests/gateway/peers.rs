//! The listener for other nodes' gateways.

use serde_json::json;
use tandem_gateway::hash_api_key;
use tokio::net::{TcpListener, TcpStream};

use super::{
    http::open,
    pair::{PAIR_KEY, Proxy, free_address},
    server::{Gateway, Says, chat_body},
};

#[tokio::test]
async fn only_the_pairs_key_opens_it_and_nothing_is_open() {
    let peer_listen = free_address();
    let gateway = Gateway::start_as(Says::Text("the end"), None, |setup| {
        setup.settings.api_keys = vec![hash_api_key("client")];
        setup.settings.require_key_on_loopback = true;
        setup.canary_key_hash = Some(hash_api_key("canary"));
        setup.peer_listen = Some(peer_listen);
        setup.peer_key_hash = Some(hash_api_key(PAIR_KEY));
    })
    .await;
    let body = chat_body(json!({})).to_string().into_bytes();
    let json = ("content-type", "application/json");
    for (path, method) in
        [("/health", "GET"), ("/v1/models", "GET"), ("/v1/chat/completions", "POST")]
    {
        for (key, at_peers, at_clients) in
            [("client", 401, 200), ("canary", 401, 200), (PAIR_KEY, 200, 401), ("", 401, 401)]
        {
            let value = format!("Bearer {key}");
            let headers = [json, ("authorization", value.as_str())];
            let headers = if key.is_empty() { &headers[..1] } else { &headers };
            let ask = async |address| {
                open(address, method, path, headers, body.clone()).await.status.as_u16()
            };
            assert_eq!(ask(peer_listen).await, at_peers, "{path} {key}");
            let at_clients = if path == "/health" { 200 } else { at_clients };
            assert_eq!(ask(gateway.address).await, at_clients, "{path} {key}");
        }
    }
}

#[tokio::test]
async fn it_is_tried_again_until_its_address_is_there() {
    let taken = TcpListener::bind(free_address()).await.unwrap();
    let peer_listen = taken.local_addr().unwrap();
    let gateway = Gateway::start_as(Says::Text("the end"), None, |setup| {
        setup.peer_listen = Some(peer_listen);
        setup.peer_key_hash = Some(hash_api_key(PAIR_KEY));
    })
    .await;
    assert_eq!(gateway.chat(json!({})).await.status, 200, "clients need not wait for it");
    let proxy = Proxy::start(|_| {}).await;
    proxy.point_at(peer_listen, PAIR_KEY);
    drop(taken);
    proxy.until_health(200).await;
    assert_eq!(proxy.chat(json!({})).await.status, 200);
}

#[tokio::test]
async fn a_gateway_ends_while_that_address_is_not_there() {
    let taken = TcpListener::bind(free_address()).await.unwrap();
    let mut gateway = Gateway::start_as(Says::Text("x"), None, |setup| {
        setup.peer_listen = Some(taken.local_addr().unwrap());
        setup.peer_key_hash = Some(hash_api_key(PAIR_KEY));
    })
    .await;
    gateway.begin_shutdown();
    gateway.ended().await;
}

#[tokio::test]
async fn without_a_key_for_them_other_nodes_can_not_come_in() {
    let peer_listen = free_address();
    let start = async |hash: Option<String>| {
        Gateway::start_as(Says::Text("x"), None, |setup| {
            setup.peer_listen = Some(peer_listen);
            setup.peer_key_hash = hash;
        })
        .await
    };
    let _gateway = start(None).await;
    assert!(TcpStream::connect(peer_listen).await.is_err());
}

#[tokio::test]
async fn places_and_queue_are_bounded_over_both_listeners() {
    let peer_listen = free_address();
    let gateway = Gateway::start_as(Says::Text("x"), Some(0), |setup| {
        setup.settings.max_connections = 2;
        setup.settings.max_queued = 2;
        setup.peer_listen = Some(peer_listen);
        setup.peer_key_hash = Some(hash_api_key(PAIR_KEY));
    })
    .await;
    let key = format!("Bearer {PAIR_KEY}");
    let ask = async |n: u32, is_canary: bool| {
        let mut headers = vec![("content-type", "application/json"), ("authorization", &*key)];
        headers.extend(is_canary.then_some(("x-tandem-canary", "1")));
        let body = chat_body(json!({"stream": true, "n": n})).to_string().into_bytes();
        open(peer_listen, "POST", "/v1/chat/completions", &headers, body).await
    };
    let _own = gateway.chat_stream(json!({})).await;
    let full = ask(2, false).await.whole().await;
    assert_eq!(full.refusal(), (429, "-".into(), "queue_full".into()));
    let _theirs = ask(1, false).await;
    for refused in [gateway.chat(json!({})).await, ask(1, false).await.whole().await] {
        assert_eq!(refused.refusal(), (503, "-".into(), "too_many_connections".into()));
    }
    let headers = [("authorization", &*key)];
    let health = open(peer_listen, "GET", "/health", &headers, vec![]).await;
    assert_eq!(health.status, 200);
    assert_eq!(ask(1, true).await.status, 200, "another node's canary has a place of its own");
}
