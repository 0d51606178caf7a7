//! Who is not who they should be, or says what can't be.

use std::net::SocketAddr;

use serde_json::json;
use tandem_peer::{identity::Pins, link::PROTOCOL_VERSION};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::{
    forwarder::{Forwarder, loopback},
    node::{Node, pair, until},
    raw::{self, Someone, account, ask},
};

#[tokio::test]
async fn another_key_than_the_pinned_one_is_refused_and_named() {
    let (a, b) = pair();
    let impostor = Node::new("b");
    impostor.pin("a", a.identity.fingerprint());
    let way = Forwarder::on(loopback(1)).await;
    let running = a.start(&[("b", &[way.address])]).await;
    let impostor_running = impostor.start(&[("a", &[])]).await;
    way.lead_to(impostor_running.port().await);
    impostor_running.says("I am b");
    running.problem("b", 0, &impostor.identity.fingerprint().to_string()).await;
    running.problem("b", 0, &b.identity.fingerprint().to_string()).await;
    assert_eq!(running.phase("b"), None);
}

#[tokio::test]
async fn the_pinned_certificate_without_its_key_is_no_proof() {
    let (a, _) = pair();
    let (pinned, thief) = (Someone::new(), Someone::new());
    a.pin("b", pinned.fingerprint());
    let (listener, address) = raw::listener().await;
    let a = a.start(&[("b", &[address])]).await;
    let stolen = pinned.with_key_of(&thief);
    for _ in 0..3 {
        let refused = async { raw::read(&mut stolen.accept(&listener).await?).await };
        assert!(refused.await.is_err(), "a question, with its secrets, came to a thief");
    }
    a.problem("b", 0, "BadSignature").await;
    let mut stream = pinned.accept(&listener).await.unwrap();
    assert!(raw::read(&mut stream).await.is_ok());
}

#[tokio::test]
async fn a_node_that_does_not_trust_us_is_named() {
    let (a, b) = pair();
    Pins::forget(&b.folder(), "a").unwrap();
    let way = Forwarder::on(loopback(1)).await;
    let a = a.start(&[("b", &[way.address])]).await;
    let b = b.start(&[("a", &[])]).await;
    way.lead_to(b.port().await);
    a.problem("b", 0, "does not trust this node's certificate").await;
    until("it is counted there", || b.link.refused() > 0).await;
    assert!(!b.peer("a").is_paired);
}

#[tokio::test]
async fn strangers_get_no_answer() {
    let (a, _) = pair();
    let stranger = Someone::new();
    let pinned = Someone::new();
    let elsewhere = Someone::new();
    a.pin("b", pinned.fingerprint());
    a.pin("not-in-the-config", elsewhere.fingerprint());
    let a = a.start(&[("b", &[])]).await;
    let port = a.port().await;
    let rows = [
        ("a certificate that nobody pinned", stranger.with_key_of(&stranger)),
        ("the pinned certificate without its key", pinned.with_key_of(&stranger)),
        ("a pinned node that is not in the config", elsewhere),
    ];
    for (index, (what, someone)) in rows.into_iter().enumerate() {
        let answer = async {
            let mut stream = someone.dial(port).await?;
            let question = raw::framed(&serde_json::to_vec(&json!({
                "v": PROTOCOL_VERSION, "body": {"ask": account("x", 1, "let me in")}
            }))?);
            stream.write_all(&question).await?;
            stream.flush().await?;
            raw::read(&mut stream).await
        };
        assert!(answer.await.is_err(), "{what}");
        let count = index as u64 + 1;
        until("it is counted", || a.link.refused() == count).await;
    }
    assert_eq!(a.phase("b"), None);
    let answer = ask(&mut pinned.dial(port).await.unwrap(), account("x", 1, "in")).await;
    assert!(answer["body"]["answer"].is_object(), "{answer}");
    a.hears("b", "in").await;
}

#[tokio::test]
async fn what_is_old_or_repeated_is_dropped_and_a_new_life_is_heard() {
    let (a, _) = pair();
    let someone = Someone::new();
    a.pin("b", someone.fingerprint());
    let a = a.start(&[("b", &[])]).await;
    let port = a.port().await;
    let [mut one, mut two] = [someone.dial(port).await.unwrap(), someone.dial(port).await.unwrap()];
    ask(&mut one, account("first life", 5, "five")).await;
    assert_eq!(a.phase("b").as_deref(), Some("five"));
    ask(&mut two, account("first life", 4, "four, overtaken")).await;
    ask(&mut two, account("first life", 5, "five, replayed")).await;
    assert_eq!(a.phase("b").as_deref(), Some("five"));

    let mut three = someone.dial(port).await.unwrap();
    ask(&mut three, account("second life", 1, "born again")).await;
    assert_eq!(a.phase("b").as_deref(), Some("born again"));
    // What the first life left in its sockets, on both of its connections.
    ask(&mut one, account("first life", 100, "a ghost")).await;
    ask(&mut two, account("first life", 101, "a ghost")).await;
    assert_eq!(a.phase("b").as_deref(), Some("born again"));
    ask(&mut three, account("second life", 2, "goes on")).await;
    assert_eq!(a.phase("b").as_deref(), Some("goes on"));
}

#[tokio::test]
async fn a_node_that_calls_itself_something_else_is_refused_and_told_why() {
    let (a, _) = pair();
    let someone = Someone::new();
    a.pin("b", someone.fingerprint());
    let (listener, address) = raw::listener().await;
    let a = a.start(&[("b", &[address])]).await;
    let mut wrong = account("x", 1, "p");
    wrong["report"]["node"] = json!("c");

    let mut stream = someone.dial(a.port().await).await.unwrap();
    let answer = ask(&mut stream, wrong.clone()).await;
    assert!(answer["body"]["refused"]["reason"].to_string().contains("calls itself"), "{answer}");
    assert!(raw::read(&mut stream).await.is_err());

    answer_with(&someone, &listener, json!({"v": PROTOCOL_VERSION, "body": {"answer": wrong}}))
        .await;
    a.problem("b", 0, "calls itself").await;
    assert_eq!(a.phase("b"), None);
}

#[tokio::test]
async fn another_version_is_named_on_both_sides() {
    let (a, _) = pair();
    let someone = Someone::new();
    a.pin("b", someone.fingerprint());
    let (listener, address) = raw::listener().await;
    let a = a.start(&[("b", &[address])]).await;

    let mut stream = someone.dial(a.port().await).await.unwrap();
    stream.write_all(&raw::framed(br#"{"v":9,"body":{"whatever":1}}"#)).await.unwrap();
    let answer = raw::read(&mut stream).await.unwrap();
    assert!(answer["body"]["refused"]["reason"].to_string().contains("version 9"), "{answer}");

    answer_with(&someone, &listener, json!({"v": 9, "body": {"whatever": 1}})).await;
    a.problem("b", 0, "version 9").await;

    let reason = "x\n".repeat(1_000);
    answer_with(
        &someone,
        &listener,
        json!({"v": PROTOCOL_VERSION, "body": {"refused": {"reason": reason}}}),
    )
    .await;
    a.problem("b", 0, "refused by it: x x").await;
    assert!(a.path("b", 0).problem.len() < 300, "foreign text is cut");
}

#[tokio::test]
async fn a_forgotten_node_loses_the_connections_that_it_has() {
    let (a, _) = pair();
    let someone = Someone::new();
    a.pin("b", someone.fingerprint());
    let running = a.start(&[("b", &[])]).await;
    let mut stream = someone.dial(running.port().await).await.unwrap();
    ask(&mut stream, account("x", 1, "in")).await;
    Pins::forget(&a.folder(), "b").unwrap();
    running.link.repin();
    let last = raw::read(&mut stream).await.unwrap();
    assert!(last["body"]["refused"].is_object(), "{last}");
    assert!(raw::read(&mut stream).await.is_err());
    until("what it said is forgotten", || running.phase("b").is_none()).await;
}

#[tokio::test]
async fn nonsense_for_an_answer_is_a_problem_of_that_way_only() {
    let a = Node::new("a");
    let (liar, honest) = (Someone::new(), Node::new("c"));
    a.pin("b", liar.fingerprint());
    a.pin("c", honest.identity.fingerprint());
    honest.pin("a", a.identity.fingerprint());
    let (listener, address) = raw::listener().await;
    let way = Forwarder::on(loopback(1)).await;
    let a = a.start(&[("b", &[address]), ("c", &[way.address])]).await;
    let honest = honest.start(&[("a", &[])]).await;
    way.lead_to(honest.port().await);
    let rows: [(&[u8], &str); 4] = [
        (&raw::framed(b"\xff\xfe"), "makes no sense"),
        (&raw::message(&json!({"ask_manifest": {}})), "can't come now"),
        (&u32::MAX.to_le_bytes(), "over the limit"),
        (&[9, 0], "eof"),
    ];
    for (bytes, problem) in rows {
        let mut stream = liar.accept(&listener).await.unwrap();
        raw::read(&mut stream).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        a.problem("b", 0, problem).await;
        honest.says(problem);
        a.hears("c", problem).await;
    }
    assert_eq!(a.phase("b"), None);
}

#[tokio::test]
async fn an_address_that_is_taken_is_tried_until_it_is_free() {
    let (mut a, b) = pair();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    a.listen = taken.local_addr().unwrap();
    let a_running = a.start(&[("b", &[])]).await;
    until("the problem is told", || {
        a_running.link.problem().is_some_and(|problem| problem.contains("can't listen"))
    })
    .await;
    let address: SocketAddr = a.listen;
    drop(taken);
    until("it listens", || a_running.link.listening() == Some(address)).await;
    assert_eq!(a_running.link.problem(), None);
    let b = b.start(&[("a", &[address])]).await;
    b.says("here");
    a_running.hears("b", "here").await;
}

/// Takes one dialler and answers its first question with this.
async fn answer_with(someone: &Someone, listener: &TcpListener, answer: serde_json::Value) {
    let mut stream = someone.accept(listener).await.unwrap();
    let question = raw::read(&mut stream).await.unwrap();
    assert!(question["body"]["ask"].is_object(), "{question}");
    stream.write_all(&raw::framed(&serde_json::to_vec(&answer).unwrap())).await.unwrap();
    stream.flush().await.unwrap();
    let _ = raw::read(&mut stream).await;
}
