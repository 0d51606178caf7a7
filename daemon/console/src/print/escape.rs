//! Text from elsewhere, made harmless for a terminal.

use std::{borrow::Cow, fmt::Write};

/// The text with everything that a terminal obeys written out: control characters as `\n` or
/// `\x1b`, and the marks that turn the direction of writing or take no place as `\u{202e}`.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing to a String can't fail.
        let _ = match c {
            '\n' => escaped.write_str("\\n"),
            '\r' => escaped.write_str("\\r"),
            '\t' => escaped.write_str("\\t"),
            c if c.is_control() && u32::from(c) < 0x100 => {
                write!(escaped, "\\x{:02x}", u32::from(c))
            }
            c if is_unsafe(c) => write!(escaped, "\\u{{{:x}}}", u32::from(c)),
            c => escaped.write_char(c),
        };
    }
    Cow::Owned(escaped)
}

/// JSON that means the same, with what a terminal obeys written as `\u009b`. JSON itself escapes the
/// control characters of ASCII but DEL; the others can stand in its strings only.
pub(crate) fn escape_json(json: &str) -> Cow<'_, str> {
    let obeyed = |c: char| is_unsafe(c) && u32::from(c) >= 0x7f;
    if !json.chars().any(obeyed) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if obeyed(c) {
            // All of them are below 0x10000. Writing to a String can't fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters (C0, DEL, C1), and of Unicode's format characters those that hide text or
/// turn its direction ("Trojan Source", CVE-2021-42574).
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
