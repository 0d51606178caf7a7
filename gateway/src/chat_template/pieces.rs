//! Pieces of strings: what is left without their ends, between separators and between lines.

use minijinja::{Error, Value};

use super::{
    characters::{is_line_end, is_space},
    value::{expect_str, fail},
};

/// Without the given characters, or without blanks, at the ends that `name` says.
pub(super) fn strip<'a>(text: &'a str, name: &str, chars: Option<Value>) -> Result<&'a str, Error> {
    let chars = chars.filter(|chars| !chars.is_none());
    let chars = chars.as_ref().map(|chars| expect_str(chars, "what is stripped")).transpose()?;
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    Ok(match name {
        "lstrip" => text.trim_start_matches(goes),
        "rstrip" => text.trim_end_matches(goes),
        _ => text.trim_matches(goes),
    })
}

pub(super) fn split_at<'a>(
    text: &'a str,
    separator: &str,
    limit: Option<usize>,
    from_right: bool,
) -> Result<Vec<&'a str>, Error> {
    if separator.is_empty() {
        return fail("a separator is empty");
    }
    let pieces = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
    Ok(if from_right {
        let mut pieces: Vec<_> = text.rsplitn(pieces, separator).collect();
        pieces.reverse();
        pieces
    } else {
        text.splitn(pieces, separator).collect()
    })
}

/// At runs of blanks; there are no empty pieces.
pub(super) fn split_blank(text: &str, limit: Option<usize>, from_right: bool) -> Vec<&str> {
    let mut pieces = Vec::new();
    let ends = |text: &str| match from_right {
        true => text.trim_end_matches(is_space).len(),
        false => text.trim_start_matches(is_space).len(),
    };
    let mut rest = if from_right { &text[..ends(text)] } else { &text[text.len() - ends(text)..] };
    while !rest.is_empty() {
        if limit.is_some_and(|limit| pieces.len() >= limit) {
            // What is left keeps the blanks at its far end.
            break;
        }
        let blank = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        match (blank, from_right) {
            (None, _) => {
                pieces.push(rest);
                rest = "";
            }
            (Some(at), false) => {
                pieces.push(&rest[..at]);
                rest = rest[at..].trim_start_matches(is_space);
            }
            (Some(at), true) => {
                let width = rest[at..].chars().next().map_or(0, char::len_utf8);
                pieces.push(&rest[at + width..]);
                rest = rest[..at].trim_end_matches(is_space);
            }
        }
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    if from_right {
        pieces.reverse();
    }
    pieces
}

/// The lines, by all that Python takes for the end of one.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_line_end) {
        let end = &rest[at..];
        let width =
            if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if keep_ends { at + width } else { at }]);
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}
