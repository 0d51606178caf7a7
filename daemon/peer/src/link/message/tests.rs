use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_assert, proptest},
    test_runner::Config,
};

use super::*;

fn account() -> Account {
    Account {
        instance: "i".into(),
        number: 1,
        age_ms: 0,
        report: None,
        secrets: Secrets::default(),
    }
}

async fn read_all(bytes: &[u8]) -> Result<Message, WireError> {
    let mut stream = bytes;
    read(&mut stream, FRAME_BYTES_MAX).await
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend(body);
    frame
}

#[tokio::test]
async fn a_message_survives_the_way_and_a_clean_end_is_told_from_a_cut() {
    let frame = encode(&Message::Ask(account())).unwrap();
    let read = read_all(&frame).await.unwrap();
    assert!(matches!(read, Message::Ask(account) if account.number == 1));
    assert!(matches!(read_all(&[]).await, Err(WireError::Closed)));
    for length in 1..frame.len() {
        let cut = read_all(&frame[..length]).await;
        assert!(matches!(cut, Err(WireError::Io(_))), "{length}: {cut:?}");
    }
}

#[tokio::test]
async fn what_is_not_a_message_of_this_version_is_refused() {
    type Is = fn(&WireError) -> bool;
    let malformed: Is = |error| matches!(error, WireError::Malformed(_));
    let rows: [(&[u8], Is); 9] = [
        (b"", malformed),
        (b"{}", malformed),
        (b"\xff\xfe", malformed),
        (br#"{"v":2,"body":{"ask_manifest":{}},"more":1}"#, malformed),
        (br#"{"v":2,"body":{"ask_manifest":{"more":1}}}"#, malformed),
        (br#"{"v":2,"body":{"sing":{}}}"#, malformed),
        (br#"{"v":2,"body":{"ask_manifest":{}}} x"#, malformed),
        (br#"{"v":1,"body":{"ask_manifest":{}}}"#, |e| matches!(e, WireError::OtherVersion(1))),
        (br#"{"v":7,"body":{"sing":{}},"more":1}"#, |e| matches!(e, WireError::OtherVersion(7))),
    ];
    for (body, is_expected) in rows {
        let error = read_all(&framed(body)).await.unwrap_err();
        assert!(is_expected(&error), "{}: {error:?}", String::from_utf8_lossy(body));
    }
}

#[tokio::test]
async fn an_oversized_frame_is_refused_before_memory_is_taken() {
    let result = read_all(&u32::MAX.to_le_bytes()).await;
    assert!(matches!(result, Err(WireError::TooLarge { .. })), "{result:?}");
    let reason = "x".repeat(FRAME_BYTES_MAX);
    let result = encode(&Message::Refused { reason });
    assert!(matches!(result, Err(WireError::TooLarge { .. })), "{result:?}");
}

#[test]
fn secrets_are_not_printed() {
    let session = Session { epoch: 3, control_key: "hidden".into() };
    let secrets = Secrets { session: Some(session), gateway_key: Some("hidden".into()) };
    assert!(!format!("{secrets:?}").contains("hidden"));
    assert_eq!(secrets, secrets.clone());
    assert_ne!(secrets, Secrets::default());
}

/// What a broken or hostile node may send: bytes, bytes in a frame, and messages with wrong bytes.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    let messages = [
        Message::Ask(account()),
        Message::AskManifest {},
        Message::Bulk { size_bytes: 1 },
        Message::Manifest { files: Some(Vec::new()) },
    ]
    .map(|message| encode(&message).unwrap());
    (0..6_usize, vec(any::<u8>(), 0..300), vec((any::<usize>(), any::<u8>()), 1..4)).prop_map(
        move |(kind, bytes, changes)| match messages.get(kind) {
            Some(message) => {
                let mut frame = message.clone();
                for (place, byte) in changes {
                    let place = place % frame.len();
                    frame[place] = byte;
                }
                frame
            }
            None if kind == 4 => framed(&bytes),
            None => bytes,
        },
    )
}

proptest! {
    #![proptest_config(Config { cases: 10_000, ..Config::default() })]

    #[test]
    fn whatever_comes_is_a_message_or_an_error(bytes in nonsense()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // What is read is a message that could be said again; anything else is an error, and there
        // is always an end to it.
        if let Ok(message) = runtime.block_on(read_all(&bytes)) {
            let again = encode(&message).unwrap();
            prop_assert!(runtime.block_on(read_all(&again)).is_ok());
        }
    }
}
