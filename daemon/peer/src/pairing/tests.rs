//! Whole exchanges over real sockets, with real keys.

mod between;
mod strangers;

use std::net::SocketAddr;

use tokio::{net::TcpListener, task::JoinHandle, time::Duration};

use super::*;
use crate::identity::{Fingerprint, Identity, Pins};

/// A node with a folder of its own.
struct Party {
    node: Node,
    _folder: tempfile::TempDir,
}

fn party(name: &str) -> Party {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("peer");
    let identity = Identity::load_or_make(&folder, name).unwrap();
    let node = Node {
        folder,
        name: name.into(),
        certificate: identity.certificate().to_vec(),
        link_port: 52390,
        expected: Vec::new(),
        replace: false,
    };
    Party { node, _folder: root }
}

impl Party {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.node.certificate)
    }

    fn pinned(&self) -> Vec<(String, Fingerprint)> {
        let pins = Pins::load(&self.node.folder).unwrap();
        pins.iter().map(|(name, pin)| (name.to_owned(), pin)).collect()
    }

    fn trusts(&self, other: &Party) -> bool {
        self.pinned() == [(other.node.name.clone(), other.fingerprint())]
    }
}

fn code() -> Code {
    "7K2M-9QXD".parse().unwrap()
}

fn wrong() -> Code {
    "7K2M-9QXE".parse().unwrap()
}

/// As in use, but for the pause, which would make tests slow.
fn limits() -> Limits {
    Limits { first_pause: Duration::from_millis(1), ..Limits::default() }
}

/// An offer that runs, and what comes of it.
struct Running {
    address: SocketAddr,
    task: JoinHandle<(Ended, Vec<Notice>)>,
}

async fn offered(by: &Party, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = by.node.clone();
    let task = tokio::spawn(async move {
        let mut told = Vec::new();
        let ended =
            offer(&listener, node, code(), &limits, |notice| told.push(notice.clone())).await;
        (ended, told)
    });
    Running { address, task }
}

impl Running {
    async fn join(&self, by: &Party, code: Code) -> Result<Paired, JoinError> {
        join(&[self.address], &by.node, &code, &limits()).await
    }

    async fn ended(self) -> (Ended, Vec<Notice>) {
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn the_right_code_makes_two_nodes_trust_each_other() {
    let (left, right) = (party("left"), party("right"));
    let running = offered(&left, limits()).await;
    let joined = running.join(&right, code()).await.unwrap();
    let (ended, told) = running.ended().await;
    assert!(left.trusts(&right) && right.trusts(&left));
    assert_eq!((joined.name.as_str(), joined.fingerprint), ("left", left.fingerprint()));
    assert_eq!(joined.link, SocketAddr::from(([127, 0, 0, 1], 52390)));
    assert!(!joined.is_configured);
    let Ended::Paired(paired) = ended else { panic!("{ended:?}") };
    assert_eq!((paired.name.as_str(), paired.fingerprint), ("right", right.fingerprint()));
    assert_eq!(told, []);

    // Once more changes nothing, and is no reason to refuse.
    let running = offered(&right, limits()).await;
    running.join(&left, code()).await.unwrap();
    assert!(matches!(running.ended().await.0, Ended::Paired(_)));
    assert!(left.trusts(&right) && right.trusts(&left));
}

#[tokio::test]
async fn a_wrong_code_is_refused_on_both_sides_and_pins_nothing() {
    let (left, right) = (party("left"), party("right"));
    let pause = Limits { first_pause: Duration::from_secs(600), ..limits() };
    let running = offered(&left, pause).await;
    let refused = running.join(&right, wrong()).await.unwrap_err();
    assert!(matches!(refused, JoinError::Refused(Refused::WrongCode)), "{refused}");
    // Now this machine has to wait, even with the right code, and that is not counted.
    for code in [code(), wrong()] {
        let paused = running.join(&right, code).await.unwrap_err();
        let is_pause = matches!(paused, JoinError::Refused(Refused::Paused { seconds: 1..=600 }));
        assert!(is_pause, "{paused}");
    }
    assert!(left.pinned().is_empty() && right.pinned().is_empty());
    running.task.abort();
}

#[tokio::test]
async fn the_fifth_wrong_code_ends_the_offer() {
    let (left, right) = (party("left"), party("right"));
    let running = offered(&left, limits()).await;
    let mut wrong_codes = 0;
    while wrong_codes < 5 {
        match running.join(&right, wrong()).await.unwrap_err() {
            JoinError::Refused(Refused::WrongCode) => wrong_codes += 1,
            JoinError::Refused(Refused::Paused { .. }) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            other => panic!("{other}"),
        }
    }
    let (ended, told) = running.ended().await;
    assert_eq!(ended, Ended::TooManyWrong);
    let left_over: Vec<u32> = told
        .iter()
        .map(|notice| match notice {
            Notice::WrongCode { left, .. } => *left,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(left_over, [4, 3, 2, 1, 0]);
    assert!(left.pinned().is_empty() && right.pinned().is_empty());
}

#[tokio::test]
async fn what_either_config_or_pin_forbids_is_refused_by_name_on_both_sides() {
    type Prepare = fn(&mut Party, &mut Party);
    let rows: [(&str, Prepare, Refusal); 5] = [
        ("left", |_, _| {}, Refusal::SameName),
        ("LEFT", |_, _| {}, Refusal::SameName),
        ("right", |one, _| one.node.expected = vec!["other".into()], Refusal::Unexpected),
        (
            "right",
            |one, other| {
                let old = Fingerprint::of(b"old");
                Pins::pin(&one.node.folder, &other.node.name, old).unwrap();
            },
            Refusal::OtherKey,
        ),
        (
            "right",
            |one, other| Pins::pin(&one.node.folder, "former", other.fingerprint()).unwrap(),
            Refusal::OtherName,
        ),
    ];
    for (name, prepare, refusal) in rows {
        for is_left_unwilling in [true, false] {
            let (mut left, mut right) = (party("left"), party(name));
            match is_left_unwilling {
                true => prepare(&mut left, &mut right),
                false => prepare(&mut right, &mut left),
            }
            let before = (left.pinned(), right.pinned());
            let running = offered(&left, limits()).await;
            let error = running.join(&right, code()).await.unwrap_err();
            let found = match &error {
                JoinError::There(found) if is_left_unwilling => found,
                // The one that is asked first says so.
                JoinError::There(found) if refusal == Refusal::SameName => found,
                JoinError::Here { refusal, .. } if !is_left_unwilling => refusal,
                _ => panic!("{refusal:?}: {error}"),
            };
            assert_eq!(*found, refusal);
            assert_eq!((left.pinned(), right.pinned()), before, "{refusal:?}");

            // The code is still good for the node that was meant.
            let third = party(if refusal == Refusal::Unexpected { "other" } else { "third" });
            running.join(&third, code()).await.unwrap();
            let (ended, told) = running.ended().await;
            assert!(matches!(ended, Ended::Paired(_)), "{ended:?}");
            let is_told = match told.as_slice() {
                [Notice::Here { refusal: found, .. }] => *found == refusal,
                [Notice::There { refusal: found, .. }] => *found == refusal && !is_left_unwilling,
                _ => false,
            };
            assert!(is_told, "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_new_key_for_a_known_name_takes_replace_on_the_side_that_knows_it() {
    let (mut left, right) = (party("left"), party("right"));
    Pins::pin(&left.node.folder, "right", Fingerprint::of(b"before it was set up anew")).unwrap();
    left.node.replace = true;
    let running = offered(&left, limits()).await;
    running.join(&right, code()).await.unwrap();
    running.ended().await;
    assert!(left.trusts(&right) && right.trusts(&left));
}

#[tokio::test]
async fn a_node_that_the_config_names_is_told_apart_from_one_it_does_not() {
    let (mut left, mut right) = (party("left"), party("right"));
    left.node.expected = vec!["right".into()];
    right.node.link_port = 7;
    let running = offered(&left, limits()).await;
    assert!(!running.join(&right, code()).await.unwrap().is_configured);
    let Ended::Paired(paired) = running.ended().await.0 else { panic!("not paired") };
    assert!(paired.is_configured);
    assert_eq!(paired.link.port(), 7);
}

#[tokio::test]
async fn of_two_that_join_at_once_one_is_paired() {
    for _ in 0..20 {
        let (left, right, third) = (party("left"), party("right"), party("third"));
        let running = offered(&left, limits()).await;
        let (one, other) = tokio::join!(running.join(&right, code()), running.join(&third, code()));
        let joined = if one.is_ok() { &right } else { &third };
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        assert!(left.trusts(joined) && joined.trusts(&left));
        assert!(matches!(running.ended().await.0, Ended::Paired(_)));
    }
}

#[tokio::test]
async fn an_offer_that_nobody_takes_ends() {
    let running =
        offered(&party("left"), Limits { offer: Duration::from_millis(50), ..limits() }).await;
    let held = tokio::net::TcpStream::connect(running.address).await.unwrap();
    assert_eq!(running.ended().await, (Ended::NobodyCame, vec![]));
    drop(held);
}

#[tokio::test]
async fn where_nothing_listens_the_command_to_run_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let right = party("right");
    let error = join(&[address], &right.node, &code(), &limits()).await.unwrap_err();
    assert!(matches!(error, JoinError::NotReached { .. }), "{error}");
    for part in ["tandem pair init", &address.to_string()] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = join(&[], &right.node, &code(), &limits()).await.unwrap_err();
    assert!(matches!(error, JoinError::NotReached { .. }), "{error}");
}

#[tokio::test]
async fn a_node_that_can_not_keep_its_pins_safe_pairs_with_nobody() {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};
    for is_left_unsafe in [true, false] {
        let (left, right) = (party("left"), party("right"));
        let (unsafe_one, other) = if is_left_unsafe { (&left, &right) } else { (&right, &left) };
        let mode = |mode| std::fs::set_permissions(&unsafe_one.node.folder, mode).unwrap();
        mode(Permissions::from_mode(0o755));
        let running = offered(&left, limits()).await;
        let error = running.join(&right, code()).await.unwrap_err();
        let (JoinError::There(refusal) | JoinError::Here { refusal, .. }) = error else {
            panic!("{error}")
        };
        assert_eq!(refusal, Refusal::NotKept);
        assert!(other.pinned().is_empty());
        mode(Permissions::from_mode(0o700));
        assert!(unsafe_one.pinned().is_empty());
        running.task.abort();
    }
}
