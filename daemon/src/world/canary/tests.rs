use std::{
    io::{Read, Write},
    net::TcpListener,
};

use super::*;

const CHAT: &str = r#"{"choices":[{"message":{"reasoning_content":"Hm. ","content":"Hello"}}],
                       "usage":{"completion_tokens":2}}"#;
const PLAIN: &str = r#"{"choices":[{"text":" five"}],"usage":{"completion_tokens":1}}"#;
const NO_CHAT: &str = r#"{"error":{"message":"This model has no chat template."}}"#;

fn canary(listen: SocketAddr, number: u32) -> Canary {
    Canary {
        epoch: 1,
        number,
        listen,
        model: "m".into(),
        key: "k".into(),
        max_tokens: 1,
        timeout: Duration::from_secs(5),
    }
}

/// Answers so many requests by their path, and returns the paths that were asked.
fn gateway(
    count: usize,
    answer: fn(&str) -> (u16, String),
) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listener.local_addr().unwrap();
    let answers = std::thread::spawn(move || {
        let mut paths = Vec::new();
        for stream in listener.incoming().take(count) {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.ends_with(b"}") {
                let read = stream.read(&mut buffer).unwrap();
                assert!(read > 0, "it ended early");
                request.extend_from_slice(&buffer[..read]);
            }
            let text = String::from_utf8(request).unwrap();
            let path = text.split(' ').nth(1).unwrap().to_owned();
            let (status, body) = answer(&path);
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
            let length = body.len();
            let _ = write!(stream, "{head}content-length: {length}\r\n\r\n{body}");
            paths.push(path);
        }
        paths
    });
    (listen, answers)
}

fn answered(text: &str, tokens: u32) -> CanaryOutcome {
    CanaryOutcome::Answered { text: text.into(), tokens }
}

#[test]
fn an_answer_is_understood_or_is_none() {
    assert_eq!(understand(Way::Chat, CHAT), Some(answered("Hm. Hello", 2)));
    assert_eq!(understand(Way::Plain, PLAIN), Some(answered(" five", 1)));
    for odd in ["", "{}", "[]", r#"{"choices":[]}"#, r#"{"choices":[{"message":{}}]}"#] {
        assert_eq!(understand(Way::Chat, odd), None, "{odd}");
        assert_eq!(understand(Way::Plain, odd), None, "{odd}");
    }
}

#[test]
fn only_what_a_restart_may_change_is_a_failure() {
    for status in 100..=599 {
        let outcome = judge(Way::Chat, status, Ok(CHAT.into()));
        match status {
            200 => assert_eq!(outcome, answered("Hm. Hello", 2)),
            408 | 429 | 503 | 504 => assert_eq!(outcome, CanaryOutcome::Busy, "{status}"),
            400..=499 => assert!(matches!(outcome, CanaryOutcome::Refused(_)), "{status}"),
            _ => assert!(matches!(outcome, CanaryOutcome::Failed(_)), "{status}"),
        }
    }
    let long = judge(Way::Chat, 200, Err(ureq::Error::BodyExceedsLimit(9)));
    assert!(matches!(long, CanaryOutcome::Refused(_)), "{long:?}");
    let odd = judge(Way::Chat, 200, Ok("<html>".into()));
    assert!(matches!(odd, CanaryOutcome::Refused(_)), "{odd:?}");
}

#[test]
fn a_refusal_says_what_the_gateway_said_and_no_more() {
    let told = refusal(400, Some(r#"{"error":{"message":"No\nchat."}}"#));
    assert_eq!(told, "the gateway answered with status 400: No chat.");
    assert_eq!(refusal(404, Some("x")), "the gateway answered with status 404");
    let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "a".repeat(5_000));
    assert!(refusal(400, Some(&long)).len() < 400);
}

#[test]
fn a_model_without_chat_is_asked_by_plain_text_and_at_once_from_then_on() {
    let (listen, answers) = gateway(3, |path| match path {
        "/v1/completions" => (200, PLAIN.into()),
        _ => (400, NO_CHAT.into()),
    });
    let shared = Shared::new([0]);
    assert_eq!(ask(&shared, &canary(listen, 1)), answered(" five", 1));
    assert_eq!(ask(&shared, &canary(listen, 2)), answered(" five", 1));
    let paths = answers.join().unwrap();
    assert_eq!(paths, ["/v1/chat/completions", "/v1/completions", "/v1/completions"]);
}

#[test]
fn what_is_refused_both_ways_is_told_as_both() {
    let (listen, answers) = gateway(2, |path| match path {
        "/v1/completions" => (400, r#"{"error":{"message":"The context is 4 tokens."}}"#.into()),
        _ => (400, NO_CHAT.into()),
    });
    let CanaryOutcome::Refused(why) = ask(&Shared::new([0]), &canary(listen, 1)) else {
        panic!("not refused");
    };
    assert!(why.contains("as a chat:") && why.contains("no chat template"), "{why}");
    assert!(why.contains("as plain text:") && why.contains("4 tokens"), "{why}");
    answers.join().unwrap();
}

#[test]
fn an_answer_with_the_longest_name_of_a_model_is_read() {
    let (listen, answers) = gateway(1, |_| {
        let padded = CHAT
            .replace("{\"choices\"", &format!("{{\"model\":{:?},\"choices\"", "m".repeat(100_000)));
        (200, padded)
    });
    let canary = Canary { model: "m".repeat(100_000), ..canary(listen, 1) };
    assert_eq!(ask(&Shared::new([0]), &canary), answered("Hm. Hello", 2));
    answers.join().unwrap();
}

#[test]
fn a_gateway_that_is_not_there_is_a_failure_and_no_wait() {
    let outcome = ask(&Shared::new([0]), &canary("127.0.0.1:9".parse().unwrap(), 1));
    assert!(matches!(outcome, CanaryOutcome::Failed(_)), "{outcome:?}");
}

#[test]
fn a_late_answer_to_an_older_canary_does_not_take_the_place_of_the_newer() {
    let listen = "127.0.0.1:9".parse().unwrap();
    let (old, new) = (canary(listen, 1), canary(listen, 2));
    let shared = Shared::new([0]);
    let mut facts = shared.facts();
    facts.canary = Some(new.seen(None));
    settle(&mut facts, &old, CanaryOutcome::Busy);
    let known = facts.canary.clone().unwrap();
    assert_eq!((known.number, known.outcome), (2, None));
    settle(&mut facts, &new, CanaryOutcome::Busy);
    assert_eq!(facts.canary.clone().unwrap().outcome, Some(CanaryOutcome::Busy));
    // The ranks were started again: nobody waits for it.
    facts.canary = None;
    settle(&mut facts, &new, CanaryOutcome::Busy);
    assert_eq!(facts.canary, None);
}
