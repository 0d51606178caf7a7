use std::ffi::OsStr;

use super::*;

fn printed(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_a_terminal_would_obey_is_written_out() {
    let cases = [
        ("plain, même 日本", "plain, même 日本"),
        ("two\nlines\r\tx", "two\\nlines\\r\\tx"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\u{7f}\u{9b}31m\0", "\\x7f\\x9b31m\\x00"),
        ("a\u{202e}b\u{2066}c\u{feff}\u{200b}", "a\\u{202e}b\\u{2066}c\\u{feff}\\u{200b}"),
    ];
    for (text, expected) in cases {
        assert_eq!(escape(text), expected);
    }
}

#[test]
fn json_means_the_same_and_moves_no_cursor() {
    let value = serde_json::json!({ "a": "x\u{9b}2J\u{7f}\u{202e}\u{1b}\n", "b": "日本" });
    let escaped = escape_json(&value.to_string()).into_owned();
    assert_eq!(escaped, r#"{"a":"x\u009b2J\u007f\u202e\u001b\n","b":"日本"}"#);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
}

#[test]
fn spans_of_time_are_short() {
    let cases = [
        (0, "0 s"),
        (59_999, "59 s"),
        (180_000, "3 m"),
        (61_000, "1 m 1 s"),
        (7_260_000, "2 h 1 m"),
        (90_000_000, "1 d 1 h"),
        (u64::MAX, "213503982334 d 14 h"),
    ];
    for (ms, expected) in cases {
        assert_eq!(time::span(ms), expected);
    }
}

#[test]
fn a_length_of_time_has_one_number_and_one_unit() {
    for (text, ms) in [("90s", 90_000), ("30m", 1_800_000), ("2h", 7_200_000), ("1d", 86_400_000)] {
        assert_eq!(time::parse_span(text), Ok(ms), "{text}");
    }
    for text in ["", "2", "h", "-2h", "+2h", "2 h", "1h30m", "0s", "2w", "99999999999999999999d"] {
        assert!(time::parse_span(text).unwrap_err().contains("90s, 30m, 2h or 1d"), "{text}");
    }
}

#[test]
fn iso_times_survive_any_number() {
    let cases = [
        (0, "1970-01-01T00:00:00Z"),
        (1_750_000_000_123, "2025-06-15T15:06:40Z"),
        (u64::MAX, "18446744073709551615 ms"),
    ];
    for (ms, expected) in cases {
        assert_eq!(time::iso(ms), expected);
    }
}

#[test]
fn a_time_to_come_is_no_age() {
    let style = Style::plain(60_000);
    assert_eq!(style.ago(0), "1 m ago");
    assert_eq!(style.ago(60_001), "at 1970-01-01T00:01:00Z");
}

#[test]
fn colour_is_for_terminals_that_obey_and_want_it() {
    let (able, dumb, none) = (Terminal::Able, Terminal::Dumb, Terminal::None);
    let cases = [
        (true, Some("xterm-256color"), None, able, true),
        (true, Some("xterm"), Some(""), able, true),
        (true, Some("xterm"), Some("1"), able, false),
        (true, Some("dumb"), None, dumb, false),
        (true, Some(""), None, dumb, false),
        (true, None, None, dumb, false),
        (false, Some("xterm"), None, none, false),
        (false, Some("dumb"), None, none, false),
    ];
    for (is_terminal, term, no_color, expected, has_color) in cases {
        let terminal = Terminal::of(is_terminal, term.map(OsStr::new));
        assert_eq!(terminal, expected, "{is_terminal} {term:?}");
        let style = Style::of(terminal, no_color.map(OsStr::new), Some(80), 0);
        assert_eq!(style.color, has_color, "{term:?} {no_color:?}");
        assert_eq!(style.width.is_some(), is_terminal);
    }
}

#[test]
fn a_line_is_cut_before_it_is_coloured() {
    let spans = [Span::new("a".repeat(30)).color(Color::Bad), Span::new("b".repeat(30))];
    let style = |color, width| Style { color, width, now_wall_ms: 0 };
    assert_eq!(
        printed(|out| line(out, &style(false, Some(50)), &spans)),
        format!("{}{}…\n", "a".repeat(30), "b".repeat(19))
    );
    assert_eq!(
        printed(|out| line(out, &style(true, Some(60)), &spans)),
        format!("\x1b[31m{}\x1b[0m{}\n", "a".repeat(30), "b".repeat(30))
    );
}

#[test]
fn a_long_field_goes_on_below_itself() {
    let style = Style { color: false, width: Some(40), now_wall_ms: 0 };
    let text = "the quick brown fox jumps over the lazy dog_that_is_longer_than_any_row_can_be";
    assert_eq!(
        printed(|out| field(out, &style, "why", text, None)),
        "why        the quick brown fox jumps\n           over the lazy\n           \
         dog_that_is_longer_than_any_r\n           ow_can_be\n"
    );
}

#[test]
fn columns_are_aligned_and_nothing_trails() {
    let mut table = Table::new(&["a", "name", "b"]);
    table.row(vec![Span::new("1"), Span::new("x\ny"), Span::new("")]);
    table.row(vec![Span::new("22"), Span::new(""), Span::new("z")]);
    assert_eq!(
        printed(|out| table.write(out, &Style::plain(0))),
        "a   name  b\n1   x\\ny\n22        z\n"
    );
}
