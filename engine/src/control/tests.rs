//! Two or three ranks' control channels in one process, and strangers who try to be in it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::form::{Patience, follow, lead};
use super::link::{Link, heartbeat};
use super::parity::Parity;
use super::*;
use crate::EngineError;
use crate::settings::{RankPlace, RankSetup, Settings};

const SILENCE: Duration = Duration::from_millis(300);
/// For what must happen, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn key(byte: &str) -> ControlKey {
    ControlKey::from_hex(&byte.repeat(32)).unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn setup(rank: u32, world: u32) -> RankSetup {
    let place = RankPlace { address: [127, 0, 0, 1].into(), weight: 1 };
    RankSetup {
        rank,
        ranks: vec![place; world as usize],
        model_dir: "model".into(),
        run_dir: "run".into(),
        settings: Settings::default(),
        ceiling: None,
    }
}

fn terms(rank: u32, world: u32) -> Terms {
    let model = [("config.json".to_owned(), b"{}".to_vec())];
    Terms { epoch: 7, rank, world, parity: Parity::new(&setup(rank, world), &model), ring_port: 0 }
}

fn patience(timeout_ms: u64) -> Patience {
    Patience::new(timeout_ms, Arc::new(AtomicBool::new(false)))
}

type Formed<T> = Result<Option<T>, EngineError>;

fn leading(address: SocketAddr, terms: Terms, timeout_ms: u64) -> JoinHandle<Formed<Vec<Peer>>> {
    thread::spawn(move || lead(address, &key("5a"), &terms, &patience(timeout_ms)))
}

fn following(
    address: SocketAddr,
    key: ControlKey,
    terms: Terms,
    timeout_ms: u64,
) -> JoinHandle<Formed<Peer>> {
    thread::spawn(move || follow(address, &key, &terms, &patience(timeout_ms)))
}

/// Rank 0 and rank 1, welcome to each other.
fn pair() -> (Peer, Peer) {
    let address = free_address();
    let leader = leading(address, terms(0, 2), 10_000);
    let follower = following(address, key("5a"), terms(1, 2), 10_000);
    let mut peers = leader.join().unwrap().unwrap().unwrap();
    (peers.remove(0), follower.join().unwrap().unwrap().unwrap())
}

/// Opens a link that passes on all it hears, and why it ended.
fn listen<M>(peer: Peer) -> (Arc<Link>, Receiver<M>, Receiver<EngineError>)
where
    M: serde::de::DeserializeOwned + Send + 'static,
{
    let (heard, messages) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    let on_message = move |message| {
        heard.send(message).unwrap();
        Ok(())
    };
    let link = Link::open(peer, SILENCE, on_message, move |e| ended.send(e).unwrap()).unwrap();
    (link, messages, end)
}

#[test]
fn three_ranks_form_whoever_comes_first_and_talk_in_order() {
    let address = free_address();
    let last = following(address, key("5a"), terms(2, 3), 10_000);
    let first = following(address, key("5a"), terms(1, 3), 10_000);
    let peers = leading(address, terms(0, 3), 10_000).join().unwrap().unwrap().unwrap();
    assert_eq!(peers.iter().map(|peer| peer.rank).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(last.join().unwrap().unwrap().unwrap().rank, 0);
    let follower = first.join().unwrap().unwrap().unwrap();
    let (link, ..) = listen::<Up>(peers.into_iter().next().unwrap());
    let (_back, messages, _end) = listen::<Down>(follower);
    for seq in 1..=100 {
        let step = Box::new(Step { seq, ..Step::default() });
        link.send(&Down::Step { step, progress: None }).unwrap();
    }
    for expected in 1..=100 {
        let message = messages.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(&message, Down::Step { step, .. } if step.seq == expected), "{message:?}");
    }
}

#[test]
fn a_wrong_key_or_epoch_is_turned_away_and_does_not_keep_the_right_rank_out() {
    let address = free_address();
    let leader = leading(address, terms(0, 2), 10_000);
    let wrong_key = following(address, key("00"), terms(1, 2), 400);
    let error = wrong_key.join().unwrap().unwrap_err();
    assert!(matches!(&error, EngineError::Group(m) if m.contains("key")), "{error}");
    let old = Terms { epoch: 6, ..terms(1, 2) };
    let error = following(address, key("5a"), old, 400).join().unwrap().unwrap_err();
    assert!(error.to_string().contains("epoch 6; rank 0 is of epoch 7"), "{error}");
    let right = following(address, key("5a"), terms(1, 2), 10_000);
    assert_eq!(leader.join().unwrap().unwrap().unwrap().len(), 1);
    right.join().unwrap().unwrap().unwrap();
}

#[test]
fn a_difference_is_named_on_both_sides() {
    type Change = fn(&mut RankSetup, &mut Vec<(String, Vec<u8>)>);
    let cases: [(&str, i32, Change); 4] = [
        ("config.json", 65, |_, model| model[0].1.push(b' ')),
        ("shards", 65, |_, model| model.push(("shards".into(), vec![1]))),
        ("weight of [[rank]]", 64, |setup, _| setup.ranks[0].weight = 2),
        ("engine.max_active", 64, |setup, _| setup.settings.max_active = 3),
    ];
    for (name, code, change) in cases {
        let address = free_address();
        let leader = leading(address, terms(0, 2), 10_000);
        let mut other = setup(1, 2);
        let mut model = vec![("config.json".to_owned(), b"{}".to_vec())];
        change(&mut other, &mut model);
        let theirs = Terms { parity: Parity::new(&other, &model), ..terms(1, 2) };
        let follower = following(address, key("5a"), theirs, 10_000);
        for error in [leader.join().unwrap().unwrap_err(), follower.join().unwrap().unwrap_err()] {
            assert!(error.to_string().contains(&format!("in: {name};")), "{name}: {error}");
            assert_eq!(error.exit_code(), code, "{name}: {error}");
        }
    }
}

#[test]
fn strangers_who_hold_or_flood_connections_keep_nobody_out() {
    let address = free_address();
    let leader = leading(address, terms(0, 2), 10_000);
    let mut strangers = Vec::new();
    while strangers.len() < 20 {
        if let Ok(mut stranger) = TcpStream::connect(address) {
            // Some say nothing, some announce four gigabytes, some speak HTTP.
            let words: [&[u8]; 3] = [b"", &[0xff; 64], b"GET / HTTP/1.1\r\n\r\n"];
            let _ = stranger.write_all(words[strangers.len() % 3]);
            strangers.push(stranger);
        }
    }
    let follower = following(address, key("5a"), terms(1, 2), 10_000);
    assert_eq!(leader.join().unwrap().unwrap().unwrap().len(), 1);
    follower.join().unwrap().unwrap().unwrap();
    for mut stranger in strangers {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        // Closed with nothing said, or reset.
        assert!(!matches!(stranger.read(&mut [0; 64]), Ok(1..)), "a stranger was answered");
    }
    assert!(TcpStream::connect(address).is_err(), "rank 0 listens no more once all are there");
}

#[test]
fn a_rank_that_never_comes_is_named_and_waiting_can_be_cancelled() {
    let error = leading(free_address(), terms(0, 3), 200).join().unwrap().unwrap_err();
    assert!(matches!(&error, EngineError::Group(m) if m.contains("[1, 2]")), "{error}");
    let cancelled = Patience::new(60_000, Arc::new(AtomicBool::new(true)));
    let address = free_address();
    assert!(lead(address, &key("5a"), &terms(0, 2), &cancelled).unwrap().is_none());
    assert!(follow(address, &key("5a"), &terms(1, 2), &cancelled).unwrap().is_none());
}

#[test]
fn silence_is_told_from_an_end_and_heartbeats_are_not_silence() {
    let (down, up) = pair();
    let (leader, _, leader_end) = listen::<Up>(down);
    let (follower, messages, follower_end) = listen::<Down>(up);
    let beating = heartbeat(leader, SILENCE, Down::Heartbeat).unwrap();
    // Only rank 0's heart beats: it finds the other silent; the other hears it all the while.
    let silent = leader_end.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(silent, EngineError::PeerSilent { rank: 1, silent_ms } if silent_ms >= 300),
        "{silent}"
    );
    assert!(matches!(messages.recv_timeout(PATIENCE), Ok(Down::Heartbeat)));
    assert!(follower_end.try_recv().is_err());
    drop(beating);
    let lost = follower_end.recv_timeout(PATIENCE).unwrap();
    let expected = matches!(lost, EngineError::PeerLost { .. } | EngineError::PeerSilent { .. });
    assert!(expected, "{lost}");
    drop(follower);
}

#[test]
fn a_last_word_is_heard_before_the_end() {
    let (down, up) = pair();
    let (leader, ..) = listen::<Up>(down);
    let (_follower, messages, end) = listen::<Down>(up);
    let abort = Down::Abort(Abort { code: 80, reason: "out of memory".to_owned() });
    leader.send_last(&abort);
    assert!(leader.send(&Down::Heartbeat).is_err(), "nothing comes after a last word");
    assert_eq!(messages.recv_timeout(PATIENCE).unwrap(), abort);
    let lost = end.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(lost, EngineError::PeerLost { rank: 0, .. }), "{lost}");
}

#[test]
fn a_frame_slipped_into_the_stream_ends_it_as_an_integrity_fault() {
    let (down, up) = pair();
    let mut wire = down.stream.try_clone().unwrap();
    let (leader, ..) = listen::<Up>(down);
    let (_follower, messages, end) = listen::<Down>(up);
    leader.send(&Down::Heartbeat).unwrap();
    assert_eq!(messages.recv_timeout(PATIENCE).unwrap(), Down::Heartbeat);
    let mut forged = tandem_wire::encode(&Down::Unload).unwrap();
    forged.extend([0; seal::TAG_BYTES]);
    wire.write_all(&forged).unwrap();
    let error = end.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(error, EngineError::Integrity(_)), "{error}");
    assert!(messages.try_recv().is_err(), "and it was not obeyed");
    let _ = wire.shutdown(Shutdown::Both);
}
