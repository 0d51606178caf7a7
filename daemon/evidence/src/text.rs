//! Foreign text, made safe to keep and to print: bounded, and without control characters, which
//! could forge log lines or drive a terminal.

/// The longest beginning of `text` that has at most `bytes_max` bytes.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

/// One line of at most `bytes_max` bytes; control characters become spaces.
pub(crate) fn line(text: &str, bytes_max: usize) -> String {
    // A control character of two bytes (U+0080 to U+009F) becomes a space of one, so this only
    // shrinks.
    cut(text, bytes_max).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Lines of at most `bytes_max` bytes together; control characters other than the line's end become
/// spaces.
pub(crate) fn block(text: &str, bytes_max: usize) -> String {
    let keep = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    cut(text, bytes_max).chars().map(keep).collect()
}

/// What a line of a log says before the first thing that it quotes: a field (`name=value`), a quotation
/// mark or a brace.
pub(crate) fn own_words(line: &str) -> &str {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let end = line.find(['=', '"', '{', '`']).unwrap_or(line.len());
    let (before, rest) = line.split_at(end);
    // The field's own name is no word of the message.
    if rest.starts_with('=') { before.trim_end_matches(is_name) } else { before }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_quotes_begins_with_a_field_or_a_mark() {
        for (line, words) in [
            ("WARN refused request_id=\"a b\" status=504", "WARN refused "),
            ("WARN refused request.id=a status=504", "WARN refused "),
            ("DEBUG answered path=a", "DEBUG answered "),
            ("INFO said \"x\"", "INFO said "),
            ("{\"message\":\"x\"}", ""),
            ("a `b` c", "a "),
            ("thread 'main' panicked at a/b.rs:1:2:", "thread 'main' panicked at a/b.rs:1:2:"),
            ("", ""),
        ] {
            assert_eq!(own_words(line), words);
        }
    }

    #[test]
    fn foreign_text_is_cut_between_characters_and_loses_its_control_characters() {
        for (text, bytes_max, cut_to, printed) in [
            ("plain", 10, "plain", "plain"),
            ("plain", 3, "pla", "pla"),
            ("ä€", 4, "ä", "ä"),
            ("ä€", 1, "", ""),
            ("a\x1b[31mb\r\nc\0", 99, "a\x1b[31mb\r\nc\0", "a [31mb  c "),
            ("a\u{85}b", 99, "a\u{85}b", "a b"),
        ] {
            assert_eq!(cut(text, bytes_max), cut_to);
            assert_eq!(line(text, bytes_max), printed);
        }
        assert_eq!(block("a\nb\tc\x07", 99), "a\nb c ");
    }
}
