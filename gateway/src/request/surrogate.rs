//! Says which string of a body holds half of a UTF-16 pair.
//!
//! Clients whose strings are UTF-16 cut a pair in two when they shorten a text, and send `\ud83d`
//! alone. That is no character, so the body is refused; where it is, no JSON parser says.

use serde_json::Value;

use crate::error::ApiError;

/// Stands for the lone half while its place is looked for: as long as an escape, and never a
/// character (U+FDD0).
const MARK: &[u8; 6] = b"\\ufdd0";
const MARK_CHAR: char = '\u{fdd0}';

/// The refusal of a body that would be JSON but for lone surrogates; `None`: it is not that.
pub(super) fn refusal(body: &[u8]) -> Option<ApiError> {
    let at = lone(body, 0)?;
    let escape = String::from_utf8_lossy(&body[at..at + 6]).into_owned();
    let mut marked = body.to_vec();
    let mut next = Some(at);
    while let Some(at) = next {
        marked[at..at + 6].copy_from_slice(MARK);
        next = lone(&marked, at + 6);
    }
    let whole: Value = serde_json::from_slice(&marked).ok()?;
    let path = find(&whole, String::new())?;
    let problem = format_args!(
        "holds {escape} alone (at byte {at} of the body), half of a UTF-16 pair and no character; \
         send both halves, or leave it out"
    );
    Some(ApiError::field(path, problem))
}

/// Where the first escape of a lone surrogate begins, from `from` on. Backslashes stand only in
/// strings, so strings need not be told from the rest.
fn lone(body: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < body.len() {
        if body[at] != b'\\' {
            at += 1;
            continue;
        }
        at += match (unit(body, at), unit(body, at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => return Some(at),
            (Some(_), _) => 6,
            (None, _) => 2,
        };
    }
    None
}

/// The UTF-16 unit of the escape that begins here.
fn unit(body: &[u8], at: usize) -> Option<u16> {
    let digits = body.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok().filter(|hex| !hex.starts_with('+'))?;
    u16::from_str_radix(digits, 16).ok()
}

/// The path of the first string with the mark, as errors name fields. `serde_json` bounds the depth.
fn find(value: &Value, path: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains(MARK_CHAR).then_some(path),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| find(item, format!("{path}[{index}]"))),
        Value::Object(map) => map.iter().find_map(|(key, item)| {
            if key.contains(MARK_CHAR) {
                return Some(if path.is_empty() { "body".into() } else { path.clone() });
            }
            let dot = if path.is_empty() { "" } else { "." };
            find(item, format!("{path}{dot}{key}"))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_string_with_half_a_pair_is_named() {
        for (body, param) in [
            (r#"{"messages":[{"role":"user","content":"x \ud83d y"}]}"#, "messages[0].content"),
            (r#"{"a":"\uD83D\uDE00","stop":["a","\udc00"]}"#, "stop[1]"),
            (r#"{"prompt":"\ud83d"}"#, "prompt"),
            (r#"{"prompt":"\\\\ud83d \ud83d\ud83d\ude00"}"#, "prompt"),
            (r#"{"prompt":"\ud83d\n"}"#, "prompt"),
            (r#"{"a":{"b":[[{"c":"\uDFFF"}]]}}"#, "a.b[0][0].c"),
            (r#"{"a":{"\ud800":1}}"#, "a"),
            (r#"{"\ud800":1}"#, "body"),
        ] {
            assert!(serde_json::from_str::<Value>(body).is_err(), "{body}");
            let refusal = refusal(body.as_bytes()).unwrap();
            assert_eq!(refusal.param.as_deref(), Some(param), "{body}");
            assert!(refusal.message.contains("\\u"), "{}", refusal.message);
        }
    }

    #[test]
    fn other_faults_are_not_taken_for_it() {
        for body in [
            r#"{"a":"\ud83d\ude00"}"#,
            r#"{"a":"\\\\ud83d"}"#,
            r#"{"a":"\u12"#,
            r#"{"a":"\ud83d","#,
            r#"{"a":\ud83d}"#,
            r#"{"a":"\u+fff"}"#,
            "",
            "\\",
        ] {
            assert!(refusal(body.as_bytes()).is_none(), "{body}");
        }
    }
}
