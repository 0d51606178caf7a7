//! Finding what is known about something that a person pasted or typed.

use std::collections::{BTreeSet, HashMap};

use crate::{Catalogue, Exit, LINE_BYTES_MAX, Signature, Source, text};

/// Most signatures that one explanation lists: a screenful.
pub const EXPLAIN_MAX: usize = 8;
/// Most words of a question that are looked at: a paragraph.
const WORDS_MAX: usize = 64;
/// Least share of a question's weight that a signature must share with it to be listed. Lower lists
/// whatever has two common words; higher misses what is told in other words.
const SHARE_MIN: f64 = 0.3;
/// Least number of telling words that they must share: one may be in both by accident.
const SHARED_WORDS_MIN: usize = 2;
/// Least length of a text that is looked for within ids and meanings, in bytes: a shorter one is a part
/// of many words.
const PART_BYTES_MIN: usize = 5;
/// A text that is within more ids or meanings than this is too common to tell anything.
const PART_USES_MAX: usize = 4;
/// Shortest word that tells something, in characters.
const WORD_CHARS_MIN: usize = 3;

/// Words that say nothing about a fault, however rare they are in the catalogue.
const EMPTY_WORDS: [&str; 74] = [
    "after",
    "again",
    "all",
    "also",
    "and",
    "another",
    "any",
    "anything",
    "are",
    "because",
    "been",
    "before",
    "but",
    "can",
    "cause",
    "code",
    "could",
    "did",
    "does",
    "else",
    "error",
    "ever",
    "every",
    "everything",
    "fine",
    "first",
    "for",
    "from",
    "had",
    "has",
    "have",
    "hello",
    "help",
    "how",
    "into",
    "its",
    "more",
    "most",
    "never",
    "none",
    "not",
    "nothing",
    "now",
    "off",
    "one",
    "only",
    "other",
    "our",
    "out",
    "please",
    "problem",
    "same",
    "second",
    "some",
    "something",
    "still",
    "than",
    "that",
    "the",
    "then",
    "there",
    "this",
    "three",
    "too",
    "two",
    "was",
    "what",
    "when",
    "which",
    "will",
    "with",
    "wrong",
    "yet",
    "you",
];

/// A signature that an explanation lists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explanation<'c> {
    /// Which.
    pub signature: &'c Signature,
    /// Whether it was found by words alone: no id, pattern, exit code or signal names it.
    pub is_guess: bool,
}

/// See [`Catalogue::explain`].
pub(crate) fn explain<'c>(catalogue: &'c Catalogue, question: &str) -> Vec<Explanation<'c>> {
    let question = text::cut(question.trim(), LINE_BYTES_MAX);
    if question.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<Explanation<'c>> = Vec::new();
    let mut add = |signature: &'c Signature, is_guess: bool| {
        let known = found.iter().any(|earlier| earlier.signature.id == signature.id);
        if !known && found.len() < EXPLAIN_MAX {
            found.push(Explanation { signature, is_guess });
        }
    };
    catalogue.get(question).into_iter().for_each(|signature| add(signature, false));
    let read =
        [Source::Output, Source::CrashReport, Source::Panic, Source::Jetsam, Source::SystemLog];
    read.into_iter()
        .flat_map(|source| catalogue.all_in_text(source, question))
        .for_each(|signature| add(signature, false));
    exits(question)
        .iter()
        .filter_map(|ended| catalogue.match_exit(ended))
        .for_each(|signature| add(signature, false));
    // What is known for certain is not mixed with guesses.
    if found.is_empty() {
        for signature in parts(catalogue, question).into_iter().chain(alike(catalogue, question)) {
            let known = found.iter().any(|earlier| earlier.signature.id == signature.id);
            if !known && found.len() < EXPLAIN_MAX {
                found.push(Explanation { signature, is_guess: true });
            }
        }
    }
    found
}

/// Signatures whose id or meaning has the question in it, as whole words.
fn parts<'c>(catalogue: &'c Catalogue, question: &str) -> Vec<&'c Signature> {
    if question.len() < PART_BYTES_MIN || words(question).all(|word| is_empty(&word)) {
        return Vec::new();
    }
    let asked = format!(" {} ", words(question).collect::<Vec<_>>().join(" "));
    let of = |part: fn(&Signature) -> &str| {
        let has = |signature: &&Signature| {
            let told: Vec<String> = words(part(signature)).collect();
            format!(" {} ", told.join(" ")).contains(&asked)
        };
        let found: Vec<&Signature> = catalogue.signatures().iter().filter(has).collect();
        if found.len() > PART_USES_MAX { Vec::new() } else { found }
    };
    let mut found = of(|signature| &signature.id);
    found.extend(of(|signature| &signature.meaning));
    found
}

/// The exit codes and signals that a text names, as in `exit code 81` or `signal=9`.
fn exits(question: &str) -> Vec<Exit> {
    let words: Vec<_> = words(question).collect();
    let pairs = words.windows(2).filter_map(|pair| match pair {
        [name, number] => Some((name.as_str(), number.parse::<i32>().ok()?)),
        _ => None,
    });
    let named = pairs.flat_map(|(name, number)| match name {
        "code" | "exit" => {
            // Shells tell a signal as 128 and its number (POSIX, "Exit Status for Commands").
            let signal = number.checked_sub(128).filter(|signal| *signal > 0).map(Exit::Signal);
            [Some(Exit::Code(number)), signal]
        }
        "signal" => [Some(Exit::Signal(number)), None],
        _ => [None, None],
    });
    // Words such as "exit status 81": a bare "status 400" is HTTP's.
    let statuses = words.windows(3).filter_map(|three| match three {
        [exit, status, number] if exit == "exit" && status == "status" => {
            Some(Exit::Code(number.parse().ok()?))
        }
        _ => None,
    });
    named.flatten().chain(statuses).take(EXPLAIN_MAX).collect()
}

/// Signatures that share words with the question, those with the rarest words first.
fn alike<'c>(catalogue: &'c Catalogue, question: &str) -> Vec<&'c Signature> {
    let asked: BTreeSet<String> =
        words(question).filter(|word| !is_empty(word)).take(WORDS_MAX).collect();
    let told: Vec<BTreeSet<String>> = catalogue
        .signatures()
        .iter()
        .map(|signature| {
            let kind = signature.kind.as_deref().unwrap_or_default();
            words(&format!("{} {kind} {}", signature.id, signature.meaning)).collect()
        })
        .collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for word in told.iter().flatten() {
        *uses.entry(word).or_default() += 1;
    }
    // How much a word tells: the logarithm of one over the share of signatures that use it, as in
    // the inverse document frequency of information retrieval (Spärck Jones, 1972).
    let weight = |word: &String| {
        let uses = uses.get(word.as_str()).copied().unwrap_or(0);
        ((1 + told.len()) as f64 / (1 + uses) as f64).ln()
    };
    let total: f64 = asked.iter().map(weight).sum();
    let mut scored: Vec<(f64, &Signature)> = catalogue
        .signatures()
        .iter()
        .zip(&told)
        .filter(|(_, told)| asked.intersection(told).count() >= SHARED_WORDS_MIN)
        .map(|(signature, told)| (asked.intersection(told).map(weight).sum(), signature))
        .filter(|(score, _)| *score > 0.0 && *score >= SHARE_MIN * total)
        .collect();
    // Stable, so equals stay in the file's order.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().map(|(_, signature)| signature).collect()
}

/// Whether a word tells nothing: it is short, a number, or one of everyday.
fn is_empty(word: &str) -> bool {
    word.chars().count() < WORD_CHARS_MIN
        || word.bytes().all(|byte| byte.is_ascii_digit())
        || EMPTY_WORDS.binary_search(&word).is_ok()
}

/// Lower-case words and numbers.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_tell_nothing_are_found_by_their_order() {
        assert!(EMPTY_WORDS.is_sorted());
    }
}
