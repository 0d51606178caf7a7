//! Recorded answers, and what can happen to them.

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*, sample::Index};

/// The recorded answers in these folders of `fixtures`, in the order of their names.
pub(crate) fn recorded(folders: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| String::from_utf8(fs::read(path).unwrap()).unwrap()).collect()
}

/// One thing that happens to a text.
#[derive(Clone, Debug)]
enum Damage {
    /// It ends early.
    Truncate(Index),
    /// A byte becomes another.
    Flip(Index, u8),
    /// A part is removed.
    Remove(Index, usize),
    /// A part comes twice.
    Repeat(Index, usize),
    /// A part of another recorded answer stands in it.
    Splice(Index, Index, Index, usize),
    /// A line of it or another one stands in it.
    SpliceLine(Index, Index, Index),
    /// A word that parsers trip over stands in it.
    Word(Index, Index),
}

/// Numbers at the borders of their types, signs, and what ends or opens things.
const WORDS: [&str; 18] = [
    "0",
    "-1",
    "+0",
    "00",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\0",
    "\u{85}",
    "€",
    "}",
    "\"",
    ": ",
    " = {",
];

fn one() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    // Up to some lines.
    let size = || 1..80_usize;
    prop_oneof![
        at().prop_map(Damage::Truncate),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        (at(), size()).prop_map(|(at, size)| Damage::Remove(at, size)),
        (at(), size()).prop_map(|(at, size)| Damage::Repeat(at, size)),
        (at(), at(), at(), size()).prop_map(|(to, of, at, n)| Damage::Splice(to, of, at, n)),
        (at(), at(), at()).prop_map(|(to, of, line)| Damage::SpliceLine(to, of, line)),
        (at(), at()).prop_map(|(at, word)| Damage::Word(at, word)),
    ]
}

/// A recorded answer after up to four damages.
pub(crate) fn damaged(answers: &[String]) -> impl Strategy<Value = String> + use<> {
    let answers = answers.to_vec();
    (any::<Index>(), vec(one(), 0..5)).prop_map(move |(which, damages)| {
        let mut bytes = which.get(&answers).clone().into_bytes();
        damages.iter().for_each(|damage| apply(damage, &answers, &mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn apply(damage: &Damage, answers: &[String], bytes: &mut Vec<u8>) {
    // One place more than there are bytes: the end.
    let place = |at: &Index| at.index(bytes.len() + 1);
    let part = |of: &[u8], from: usize, size: usize| of[from..of.len().min(from + size)].to_vec();
    let (at, removed, put) = match damage {
        Damage::Truncate(at) => (place(at), usize::MAX, vec![]),
        Damage::Flip(at, byte) => (place(at), 1, vec![*byte]),
        Damage::Remove(at, size) => (place(at), *size, vec![]),
        Damage::Repeat(at, size) => (place(at), 0, part(bytes, place(at), *size)),
        Damage::Splice(to, of, from, size) => {
            let other = of.get(answers).as_bytes();
            (place(to), 0, part(other, from.index(other.len() + 1), *size))
        }
        Damage::SpliceLine(to, of, line) => {
            let lines: Vec<_> = of.get(answers).split_inclusive('\n').collect();
            // Where a line begins.
            let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            let starts: Vec<_> = std::iter::once(0).chain(starts.map(|(at, _)| at + 1)).collect();
            let line = if lines.is_empty() { "" } else { line.get(&lines) };
            (*to.get(&starts), 0, line.as_bytes().to_vec())
        }
        Damage::Word(at, word) => (place(at), 0, word.get(&WORDS).as_bytes().to_vec()),
    };
    let end = at.saturating_add(removed).min(bytes.len());
    bytes.splice(at..end, put);
}

/// Up to twelve lines of the recorded answers, each with the chance to lose its indentation.
pub(crate) fn shuffled(answers: &[String]) -> impl Strategy<Value = String> + use<> {
    let lines: Vec<String> = answers.iter().flat_map(|a| a.lines()).map(str::to_owned).collect();
    vec((any::<Index>(), prop::bool::weighted(0.1)), 0..12).prop_map(move |picks| {
        let line = |(at, flat): &(Index, bool)| {
            let line = at.get(&lines);
            format!("{}\n", if *flat { line.trim_start() } else { line })
        };
        picks.iter().map(line).collect()
    })
}

/// Bytes of any kind, or of the kinds that texts are made of.
pub(crate) fn noise() -> impl Strategy<Value = String> {
    let text = prop::sample::select(b"0123456789.:=\"{}()[]/-+ \t\nabefnorstuENPD".to_vec());
    let bytes = prop_oneof![vec(any::<u8>(), 0..300), vec(text, 0..300)];
    bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
