//! One who sits between the two, hears everything and may change it.

use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;

use super::*;
use crate::pairing::{
    frame::{Frame, Kind},
    introduction::Introduction,
    session::{Role, Start},
};

const ANY: [Kind; 4] = [Kind::Hello, Kind::Introduction, Kind::Verdict, Kind::Refused];

/// What the one between does with a frame: whether it comes from the joiner, and the frame.
type Change = dyn Fn(bool, Frame) -> Frame + Send + Sync;

/// A relay of frames to an offer: where it listens, and all that it heard.
async fn between(
    offer: SocketAddr,
    change: Box<Change>,
) -> (SocketAddr, Arc<Mutex<Vec<(bool, Frame)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    tokio::spawn(async move {
        let (joiner, _) = listener.accept().await.unwrap();
        let offerer = TcpStream::connect(offer).await.unwrap();
        let (mut from_joiner, mut to_joiner) = joiner.into_split();
        let (mut from_offerer, mut to_offerer) = offerer.into_split();
        let relay = |is_joiners, frame: Frame| {
            ears.lock().unwrap().push((is_joiners, frame.clone()));
            change(is_joiners, frame)
        };
        let there = async {
            while let Ok(frame) = Frame::read(&mut from_joiner, &ANY).await {
                let _ = relay(true, frame).write(&mut to_offerer).await;
            }
            drop(to_offerer);
        };
        let back = async {
            while let Ok(frame) = Frame::read(&mut from_offerer, &ANY).await {
                let _ = relay(false, frame).write(&mut to_joiner).await;
            }
            drop(to_joiner);
        };
        tokio::join!(there, back);
    });
    (address, heard)
}

#[tokio::test]
async fn one_who_swaps_certificates_or_anything_else_pairs_nobody() {
    let attacker = party("right");
    let swapped = move |frame: Frame| {
        let (body, tag) = frame.body.split_at(frame.body.len() - 32);
        let mut introduction = Introduction::parse(body).unwrap();
        introduction.certificate = attacker.node.certificate.clone();
        Frame { kind: frame.kind, body: [&introduction.bytes(), tag].concat() }
    };
    let guessed = |role| Start::new(role, &wrong()).hello().clone();
    let swapped = Arc::new(swapped);
    let (one, other) = (swapped.clone(), swapped);
    let flipped = |mut frame: Frame| {
        frame.body[0] ^= 1;
        frame
    };
    let rows: Vec<(&str, Box<Change>)> = vec![
        (
            "the joiner's certificate",
            Box::new(move |is_joiners, frame| match (is_joiners, frame.kind) {
                (true, Kind::Introduction) => one(frame),
                _ => frame,
            }),
        ),
        (
            "the offerer's certificate",
            Box::new(move |is_joiners, frame| match (is_joiners, frame.kind) {
                (false, Kind::Introduction) => other(frame),
                _ => frame,
            }),
        ),
        (
            "the joiner's hello for one of its own",
            Box::new(move |is_joiners, frame| match (is_joiners, frame.kind) {
                (true, Kind::Hello) => guessed(Role::Joiner),
                _ => frame,
            }),
        ),
        (
            "the offerer's hello for one of its own",
            Box::new(move |is_joiners, frame| match (is_joiners, frame.kind) {
                (false, Kind::Hello) => guessed(Role::Offerer),
                _ => frame,
            }),
        ),
        (
            "the joiner's verdict",
            Box::new(move |is_joiners, frame| match (is_joiners, frame.kind) {
                (true, Kind::Verdict) => flipped(frame),
                _ => frame,
            }),
        ),
    ];
    for (what, change) in rows {
        let (left, right) = (party("left"), party("right"));
        let running = offered(&left, limits()).await;
        let (address, _) = between(running.address, change).await;
        let error = join(&[address], &right.node, &code(), &limits()).await.unwrap_err();
        assert!(left.pinned().is_empty() && right.pinned().is_empty(), "{what}: {error}");
        running.task.abort();
    }
}

#[tokio::test]
async fn a_swapped_last_verdict_leaves_the_joiner_unsure_and_trusting_nobody() {
    let (left, right) = (party("left"), party("right"));
    let running = offered(&left, limits()).await;
    let change = |is_joiners: bool, mut frame: Frame| {
        if !is_joiners && frame.kind == Kind::Verdict {
            frame.body[0] ^= 1;
        }
        frame
    };
    let (address, _) = between(running.address, Box::new(change)).await;
    let error = join(&[address], &right.node, &code(), &limits()).await.unwrap_err();
    assert!(matches!(&error, JoinError::Unsure { name } if name == "left"), "{error}");
    assert!(right.pinned().is_empty());
    // As the error says, pairing again mends it.
    running.ended().await;
    let running = offered(&left, limits()).await;
    running.join(&right, code()).await.unwrap();
    assert!(left.trusts(&right) && right.trusts(&left));
}

#[tokio::test]
async fn a_recorded_exchange_opens_nothing_even_with_the_same_code() {
    let (left, right) = (party("left"), party("right"));
    let running = offered(&left, limits()).await;
    let (address, heard) = between(running.address, Box::new(|_, frame| frame)).await;
    join(&[address], &right.node, &code(), &limits()).await.unwrap();
    assert!(matches!(running.ended().await.0, Ended::Paired(_)));
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 6, "the whole exchange was heard");

    // The joiner's side of it, played to a new offer of the same code.
    let another = party("another");
    let running = offered(&another, limits()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for (_, frame) in heard.iter().filter(|(is_joiners, _)| *is_joiners) {
        let _ = frame.write(&mut stream).await;
    }
    assert_eq!(Frame::read(&mut stream, &ANY).await.unwrap().kind, Kind::Hello);
    let refused = Frame::read(&mut stream, &ANY).await.unwrap();
    assert_eq!(Refused::parse(&refused.body), Some(Refused::WrongCode));
    running.task.abort();
    assert!(another.pinned().is_empty());

    // The offerer's side of it, played to a new joiner.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let offerers: Vec<Frame> =
        heard.into_iter().filter(|(is_joiners, _)| !is_joiners).map(|(_, frame)| frame).collect();
    let played = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for frame in offerers {
            let _ = frame.write(&mut stream).await;
        }
        stream
    });
    let error = join(&[address], &another.node, &code(), &limits()).await.unwrap_err();
    assert!(matches!(error, JoinError::NotProven), "{error}");
    assert!(another.pinned().is_empty());
    drop(played.await);
}
