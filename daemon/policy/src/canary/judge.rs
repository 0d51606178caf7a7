//! Whether an answer is one that a working model gives, of whatever size.
//!
//! Judged is only what no working model says: a broken one repeats one token (its logits are not
//! numbers, or are all equal), or puts together bytes of tokens that do not belong together. A small
//! model's wrong, odd or cut answer passes. That two in a row are needed makes up for the rest.

/// Shortest text in which repetition means something, in characters: as long as the shortest answer
/// of a canary's eight tokens of one character each. "....." or "Haha" is an answer.
const REPETITION_CHARS_MIN: usize = 8;

/// Largest share of one character in such a text, in percent.
const ONE_CHAR_PERCENT_MAX: usize = 80;

/// Longest pattern that is looked for, in characters.
const PATTERN_CHARS_MAX: usize = 4;

/// Least times that a pattern must fill the text: "no, no, no" is an answer.
const PATTERN_TIMES_MIN: usize = 4;

/// Largest share of replacement characters, in percent, and their largest count.
const REPLACED_PERCENT_MAX: usize = 5;
const REPLACED_MAX: usize = 1;

/// Most replacement characters at the end that are left out: a limit on tokens can cut a character
/// of four bytes after its third.
const CUT_MAX: usize = 3;

/// Whether the answer to a canary is no garbage; if it is, why.
pub fn judge(text: &str, tokens: u32) -> Result<(), String> {
    if tokens == 0 || text.is_empty() {
        return Err("the answer has no tokens".into());
    }
    let chars: Vec<char> = without_cut_end(text).chars().collect();
    let replaced = chars.iter().filter(|c| **c == char::REPLACEMENT_CHARACTER).count();
    if chars.is_empty()
        || replaced > REPLACED_MAX
        || replaced * 100 > REPLACED_PERCENT_MAX * chars.len()
    {
        return Err("the answer has bytes that are not UTF-8".into());
    }
    let is_odd = |c: &&char| c.is_control() && !matches!(**c, '\n' | '\t' | '\r');
    if let Some(odd) = chars.iter().find(is_odd) {
        return Err(format!("the answer has the control character U+{:04X}", u32::from(*odd)));
    }
    match repeated(&chars) {
        Some(pattern) => Err(format!("the answer repeats {pattern:?}")),
        None => Ok(()),
    }
}

/// The text without replacement characters at its end.
fn without_cut_end(text: &str) -> &str {
    let mut rest = text;
    for _ in 0..CUT_MAX {
        rest = rest.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(rest);
    }
    rest
}

/// The character that makes up nearly all of the text, or the pattern that fills it.
fn repeated(chars: &[char]) -> Option<String> {
    if chars.len() < REPETITION_CHARS_MIN {
        return None;
    }
    // White space in front of an answer, such as an indent, is no repetition; alone it is.
    let is_inked = |c: &char| !c.is_whitespace();
    let body = match (chars.iter().position(is_inked), chars.iter().rposition(is_inked)) {
        (Some(first), Some(last)) => chars.get(first..=last).unwrap_or(chars),
        _ => return Some(chars.iter().take(1).collect()),
    };
    if body.len() < REPETITION_CHARS_MIN {
        return None;
    }
    let mut sorted = body.to_vec();
    sorted.sort_unstable();
    let most = sorted.chunk_by(|a, b| a == b).max_by_key(|run| run.len());
    if let Some(run) = most
        && run.len() * 100 > ONE_CHAR_PERCENT_MAX * body.len()
    {
        return Some(run.iter().take(1).collect());
    }
    (1..=PATTERN_CHARS_MAX)
        // The last one may lack the space at its end, which was left out.
        .filter(|length| body.len() + 1 >= length * PATTERN_TIMES_MIN)
        .find(|length| body.iter().zip(body.iter().skip(*length)).all(|(a, b)| a == b))
        .map(|length| body.iter().take(length).collect())
}
