//! Strangers on the pairing port, and what a joiner may find in place of an offer.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::pairing::{
    frame::{Frame, Kind},
    session::{Role, Start},
};

#[tokio::test]
async fn connections_that_never_finish_do_not_hinder_an_honest_join() {
    let hello = Start::new(Role::Joiner, &wrong()).hello().bytes();
    for (what, bytes) in [
        ("nothing", &[][..]),
        ("one byte", &[1]),
        ("half a hello", &hello[..20]),
        ("a hello and no proof", &hello),
        ("a hello and one byte", &[&hello[..], &[2]].concat()),
    ] {
        let (left, right) = (party("left"), party("right"));
        let running = offered(&left, limits()).await;
        let mut held = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            let _ = stream.write_all(bytes).await;
            held.push(stream);
        }
        running.join(&right, code()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(left.trusts(&right) && right.trusts(&left), "{what}");
        let (ended, told) = running.ended().await;
        assert!(matches!(ended, Ended::Paired(_)), "{what}: {ended:?}");
        assert_eq!(told, [], "{what}: nothing was tried, so nothing is told");
    }
}

#[tokio::test]
async fn a_connection_ends_when_its_time_is_up_however_it_drips() {
    let short = Limits { connection: Duration::from_millis(100), ..limits() };
    let running = offered(&party("left"), short).await;
    let hello = Start::new(Role::Joiner, &code()).hello().bytes();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut dripped = 0;
    for byte in hello {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        dripped += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Either a write failed, or the end is read; a hello in answer would be the defect.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{dripped} bytes were taken");
    running.task.abort();
}

/// A small generator (xorshift, Marsaglia 2003), so that the same bytes come in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_inputs_of_garbage_are_no_try_and_break_nothing() {
    let (left, right) = (party("left"), party("right"));
    let running = offered(&left, limits()).await;
    let hello = Start::new(Role::Joiner, &wrong()).hello().clone();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for number in 0..10_000_u32 {
        let length = (random.next() % 200) as usize;
        let garbage = random.bytes(length);
        let bytes = match number % 4 {
            // Anything at all.
            0 => garbage,
            // A whole hello of garbage.
            1 => {
                let body = garbage.into_iter().take(128).collect();
                Frame { kind: Kind::Hello, body }.bytes()
            }
            // A true hello with a point of garbage, or with a bit changed.
            2 => {
                let mut frame = hello.clone();
                let start = frame.body.len() - 32;
                frame.body[start..].copy_from_slice(&random.bytes(32));
                frame.bytes()
            }
            _ => {
                let mut bytes = hello.bytes();
                let index = (random.next() as usize) % 16;
                bytes[index] ^= 1 << (random.next() % 8);
                bytes
            }
        };
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
    }
    running.join(&right, code()).await.unwrap();
    let (ended, told) = running.ended().await;
    assert!(matches!(ended, Ended::Paired(_)), "{ended:?}");
    assert_eq!(told, []);
    assert!(left.trusts(&right) && right.trusts(&left));
}

#[tokio::test]
async fn what_is_too_long_or_out_of_turn_ends_the_connection_at_its_header() {
    let hello = Start::new(Role::Joiner, &code()).hello().bytes();
    for (what, bytes, answers) in [
        ("a hello of 129 bytes", vec![1, 0, 129], 0),
        ("a hello of 64 KiB", vec![1, 255, 255], 0),
        ("an introduction first", vec![2, 0, 1], 0),
        ("a verdict first", vec![3, 0, 1], 0),
        ("a refusal", vec![4, 0, 3], 0),
        ("no kind", vec![9, 0, 0], 0),
        ("an introduction of 64 KiB", [&hello[..], &[2, 255, 255]].concat(), hello.len()),
        ("two hellos", [&hello[..], &[1, 0, 45]].concat(), hello.len()),
    ] {
        // Nothing more is sent: if it waited for a body, it would wait for an hour.
        let long = Limits { connection: Duration::from_secs(3_600), ..limits() };
        let running = offered(&party("left"), long).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        // The end may be a reset, which may take an answer with it.
        let end = stream.read_to_end(&mut answer);
        assert!(tokio::time::timeout(Duration::from_secs(60), end).await.is_ok(), "{what}");
        assert!(answer.len() <= answers, "{what}");
        running.task.abort();
    }
}

#[tokio::test]
async fn an_older_or_later_version_is_told_so() {
    let running = offered(&party("left"), limits()).await;
    for version in [0, 2, 255] {
        let mut hello = Start::new(Role::Joiner, &code()).hello().clone();
        hello.body[11] = version;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        hello.write(&mut stream).await.unwrap();
        let refused = Frame::read(&mut stream, &[Kind::Refused]).await.unwrap();
        assert_eq!(Refused::parse(&refused.body), Some(Refused::Version));
    }
    running.task.abort();
}

#[tokio::test]
async fn a_joiner_trusts_nobody_who_is_not_the_one_that_shows_the_code() {
    let guess = Start::new(Role::Offerer, &wrong()).hello().bytes();
    let with = |frame: &[u8]| [&guess[..], frame].concat();
    let refused = |refused: Refused| with(&refused.frame().bytes());
    type Expected = fn(&JoinError) -> bool;
    let rows: [(&str, Vec<u8>, Expected); 9] = [
        ("it closes", vec![], |e| matches!(e, JoinError::Broken(_))),
        ("a web server", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), |e| {
            matches!(e, JoinError::NotPairing)
        }),
        ("a long hello", vec![1, 255, 255], |e| matches!(e, JoinError::NotPairing)),
        ("a hello of nothing", vec![1, 0, 0], |e| matches!(e, JoinError::NotPairing)),
        ("another version", [&[1, 0, 45], &b"tandem-pair\x02"[..], &[0; 33]].concat(), |e| {
            matches!(e, JoinError::Refused(Refused::Version))
        }),
        (
            "it has no proof",
            with(&[2, 0, 40, 4, b'l', b'e', b'f', b't']).into_iter().chain([0; 35]).collect(),
            |e| matches!(e, JoinError::NotProven),
        ),
        ("an empty proof", with(&[3, 0, 0]), |e| matches!(e, JoinError::NotProven)),
        ("it refuses", refused(Refused::Paused { seconds: 7 }), |e| {
            matches!(e, JoinError::Refused(Refused::Paused { seconds: 7 }))
        }),
        ("it refuses in no known way", with(&[4, 0, 1, 99]), |e| {
            matches!(e, JoinError::NotPairing)
        }),
    ];
    let right = party("right");
    for (what, bytes, is_expected) in rows {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stranger = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // What the joiner says first is read, so that closing is an end and not a reset.
            let _ = Frame::read(&mut stream, &[Kind::Hello]).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let error = join(&[address], &right.node, &code(), &limits()).await.unwrap_err();
        assert!(is_expected(&error), "{what}: {error:?}");
        stranger.await.unwrap();
    }
    assert!(right.pinned().is_empty());
}

#[tokio::test]
async fn a_joiner_does_not_wait_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let short = Limits { connection: Duration::from_millis(50), ..limits() };
    let error = join(&[address], &party("right").node, &code(), &short).await.unwrap_err();
    assert!(matches!(error, JoinError::TimedOut { .. }), "{error}");
}
