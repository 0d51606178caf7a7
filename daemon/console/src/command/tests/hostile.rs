use super::*;
use crate::command::{check, doctor, explain, fixtures, gates, handoff, status, watch, words};

#[test]
fn no_text_of_a_status_reaches_the_terminal_as_it_came() {
    let asked = asked(&fixtures::hostile());
    for color in [false, true] {
        for width in [None, Some(1), Some(80)] {
            let style = Style { color, width, ..plain() };
            let texts = [
                printed(|out| status::print(out, &style, &asked)).1,
                printed(|out| check::print(out, &style, &asked)).1,
                printed(|out| gates::print(out, &style, &asked)).1,
                printed(|out| explain::faults(out, &style, &catalogue(), &asked)).1,
                printed(|out| explain::text(out, &style, &catalogue(), "\x1b[2J\u{202e}\n")).1,
                printed(|out| handoff::print(out, &style, &asked, None, &Err("\x07".into()))).1,
                printed(|out| {
                    let checks = doctor::all("http://x", &Ok(asked.clone()), Vec::new());
                    doctor::print(out, &style, &checks)
                })
                .1,
            ];
            for text in texts {
                assert_harmless(&text, color);
                let widest = text.lines().map(|line| bare(line).chars().count()).max().unwrap();
                assert!(width.is_none_or(|width| widest <= width.max(40)), "{width:?}: {text}");
            }
        }
    }
}

/// A line without our own colours.
fn bare(line: &str) -> String {
    let mut bare = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        bare.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[rest.find('m').unwrap() + 1..];
    }
    bare + rest
}

#[test]
fn the_json_is_the_endpoints_own() {
    let asked = asked(&fixtures::hostile());
    let (_, text) = printed(|out| status::json(out, &plain(), &asked));
    assert_harmless(&text, false);
    let same: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(same, serde_json::to_value(&asked.status).unwrap());
    let (_, text) = printed(|out| check::json(out, &plain(), &asked));
    let same: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(same, serde_json::to_value(&asked.status.invariants).unwrap());
    assert_harmless(&text, false);
    let (_, text) = printed(|out| gates::json(out, &plain(), &asked));
    let same: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(same, serde_json::to_value(&asked.status.gates).unwrap());
    assert_harmless(&text, false);
}

#[test]
fn health_has_a_colour() {
    let style = Style { color: true, ..plain() };
    let cases = [
        (fixtures::healthy(), "health     \x1b[32mhealthy\x1b[0m"),
        (fixtures::degraded(), "health     \x1b[33mdegraded\x1b[0m"),
        (fixtures::held(), "health     \x1b[31mnot serving\x1b[0m"),
    ];
    for (status, expected) in cases {
        let (_, text) = printed(|out| status::print(out, &style, &asked(&status)));
        assert_eq!(text.lines().next(), Some(expected));
    }
}

#[test]
fn a_stuck_supervisor_is_believed_in_nothing() {
    let mut asked = asked(&fixtures::healthy());
    asked.age = Duration::from_secs(65);
    let (code, text) = printed(|out| status::print(out, &plain(), &asked));
    assert_eq!(code, 69);
    assert_eq!(
        text.lines().next(),
        Some("STALE      the supervisor is stuck; this is 1 m 5 s old")
    );
    assert_eq!(printed(|out| check::print(out, &plain(), &asked)).0, 69);
    assert_eq!(printed(|out| gates::print(out, &plain(), &asked)).0, 69);
    let checks = doctor::all("http://x", &Ok(asked.clone()), Vec::new());
    let (code, text) = printed(|out| doctor::print(out, &plain(), &checks));
    assert_eq!(code, 1);
    assert_eq!(
        text.lines().next(),
        Some("WRONG      supervisor: stuck: it took its last turn 1 m 5 s ago")
    );
    assert!(watch::one_line(&plain(), &Ok(asked)).contains(" STALE "));
}

#[test]
fn sizes_are_short() {
    let cases = [
        (0, "0 MiB"),
        ((1 << 30) - 1, "1023 MiB"),
        (1 << 30, "1.0 GiB"),
        (412_000_000_000, "383.7 GiB"),
        (u64::MAX, "17179869183.9 GiB"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(words::bytes(bytes), expected);
    }
}
