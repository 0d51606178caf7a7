//! Classes of characters and changes of case, as Python has them.

/// `str.isspace` of one character: Rust's white space and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Where `str.splitlines` ends a line.
pub(super) fn is_line_end(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// The first of each ten decimal digits in Unicode (category Nd) of the Basic Multilingual Plane.
const ZEROS: [u32; 37] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
    0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
];

/// A decimal digit, or with `raised` also one that is raised, lowered or in a circle.
pub(super) fn is_digit(c: char, raised: bool) -> bool {
    let code = u32::from(c);
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&code))
        || (raised
            && matches!(
                c,
                '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⑴'..='⑼' | '⒈'..='⒐'
            ))
}

/// `str.islower` and `str.isupper`: some characters of one case, none of the other.
pub(super) fn is_cased(text: &str, is: fn(char) -> bool, is_not: fn(char) -> bool) -> bool {
    text.chars().any(is) && !text.chars().any(is_not)
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => title_case(first) + &lower_after(first, chars.as_str()),
        None => String::new(),
    }
}

/// Rust lowers a final sigma by what is before it, so the first character goes along.
fn lower_after(first: char, rest: &str) -> String {
    let whole = format!("{first}{rest}").to_lowercase();
    let skipped = first.to_lowercase().map(char::len_utf8).sum();
    whole.get(skipped..).unwrap_or_default().to_owned()
}

/// A character at the beginning of a word: `ß` becomes `Ss`, not `SS`.
fn title_case(c: char) -> String {
    let mut upper = c.to_uppercase();
    let first = upper.next().unwrap_or(c);
    std::iter::once(first).chain(upper.flat_map(char::to_lowercase)).collect()
}

/// `str.title`: each letter after something that has no case begins a word.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for (at, c) in text.char_indices() {
        if in_word {
            out += &lower(text, at, c);
        } else {
            out += &title_case(c);
        }
        in_word = has_case(c);
    }
    out
}

/// `str.istitle`: each word begins with the one upper case letter in it.
pub(super) fn is_title(text: &str) -> bool {
    let (mut in_word, mut some) = (false, false);
    for c in text.chars() {
        if has_case(c) {
            if c.is_uppercase() == in_word {
                return false;
            }
            some = true;
        }
        in_word = has_case(c);
    }
    some
}

/// `str.swapcase`.
pub(super) fn swap_case(text: &str) -> String {
    let swapped = text.char_indices().map(|(at, c)| {
        if c.is_uppercase() { lower(text, at, c) } else { c.to_uppercase().collect() }
    });
    swapped.collect()
}

fn has_case(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase()
}

/// A character of a text in lower case: a sigma at the end of a word has a form of its own.
fn lower(text: &str, at: usize, c: char) -> String {
    let ends_word = || {
        text[..at].chars().next_back().is_some_and(has_case)
            && !text[at + c.len_utf8()..].chars().next().is_some_and(has_case)
    };
    if c == 'Σ' && ends_word() { "ς".to_owned() } else { c.to_lowercase().collect() }
}

/// `str.casefold`.
pub(super) fn casefold(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}
