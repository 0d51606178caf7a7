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

/// See [`Catalogue::explain`].
pub(crate) fn explain<'c>(catalogue: &'c Catalogue, question: &str) -> Vec<&'c Signature> {
    let question = text::cut(question.trim(), LINE_BYTES_MAX);
    if question.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<&Signature> = Vec::new();
    let mut add = |signature: &'c Signature| {
        let known = found.iter().any(|earlier| earlier.id == signature.id);
        if !known && found.len() < EXPLAIN_MAX {
            found.push(signature);
        }
    };
    catalogue.get(question).into_iter().for_each(&mut add);
    let read =
        [Source::Output, Source::CrashReport, Source::Panic, Source::Jetsam, Source::SystemLog];
    read.into_iter().flat_map(|source| catalogue.all_in_text(source, question)).for_each(&mut add);
    exits(question).iter().filter_map(|ended| catalogue.match_exit(ended)).for_each(&mut add);
    let lower = question.to_lowercase();
    let of = |part: fn(&Signature) -> &str| {
        let has = |signature: &&Signature| part(signature).to_lowercase().contains(&lower);
        catalogue.signatures().iter().filter(has).collect::<Vec<_>>()
    };
    of(|signature| &signature.id).into_iter().for_each(&mut add);
    of(|signature| &signature.meaning).into_iter().for_each(&mut add);
    alike(catalogue, question).into_iter().for_each(&mut add);
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
        "code" | "exit" | "status" => {
            // Shells tell a signal as 128 and its number (POSIX, "Exit Status for Commands").
            let signal = number.checked_sub(128).filter(|signal| *signal > 0).map(Exit::Signal);
            [Some(Exit::Code(number)), signal]
        }
        "signal" => [Some(Exit::Signal(number)), None],
        _ => [None, None],
    });
    named.flatten().take(EXPLAIN_MAX).collect()
}

/// Signatures that share words with the question, those with the rarest words first.
fn alike<'c>(catalogue: &'c Catalogue, question: &str) -> Vec<&'c Signature> {
    let asked: BTreeSet<String> = words(question).take(WORDS_MAX).collect();
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
        .map(|(signature, told)| (asked.intersection(told).map(weight).sum(), signature))
        .filter(|(score, _)| *score > 0.0 && *score >= SHARE_MIN * total)
        .collect();
    // Stable, so equals stay in the file's order.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().map(|(_, signature)| signature).collect()
}

/// Lower-case words and numbers.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}
