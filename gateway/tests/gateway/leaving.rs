//! Clients that go away, and those that only seem to.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    limits::begin,
    server::{Gateway, PATIENCE, Says, chat_body},
};

/// A request for a chat as it is written to the socket.
fn raw_chat(fields: Value) -> String {
    let body = chat_body(fields).to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

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
async fn a_storm_of_requests_that_are_given_up_at_once_does_not_reach_the_rank() {
    let gateway = Gateway::start_with(Says::Text("the end"), Some(0), |_| {}).await;
    let request = raw_chat(json!({"stream": true}));
    let given_up = async |waits_for_head: bool| {
        let mut raw = begin(&gateway, &request).await;
        if waits_for_head {
            raw.read_exact(&mut [0; 12]).await.unwrap();
        }
    };
    for waits_for_head in [true, false] {
        // The rank gets the first ones, and soon hardly any.
        let becomes_calm = async {
            loop {
                let before = gateway.rank.submits().len();
                join_all((0..16).map(|_| given_up(waits_for_head))).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                if gateway.rank.submits().len() < before + 4 {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, becomes_calm).await.unwrap();
    }
    // Nobody who stays is refused for it.
    gateway.rank.allow(100);
    let answer = gateway.chat(json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
}

#[tokio::test]
async fn a_client_that_has_said_all_is_answered_and_one_that_is_gone_is_not_worked_for() {
    let gateway = Gateway::start_with(Says::Text("the end"), Some(0), |_| {}).await;
    let request = raw_chat(json!({}));
    let mut patient = begin(&gateway, &request).await;
    patient.shutdown().await.unwrap();
    gateway.rank.submitted(1).await;
    let gone = begin(&gateway, &request).await;
    gateway.rank.submitted(2).await;
    drop(gone);
    gateway.rank.cancelled(1).await;
    gateway.rank.allow(100);
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, patient.read_to_string(&mut answer));
    read.await.expect("never answered").unwrap();
    let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("the end"), "{answer}");
}
