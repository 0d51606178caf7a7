//! The catalogue's file format, read strictly: every problem is reported, with its line.

use std::{collections::HashMap, io, ops::Range, path::PathBuf};

use regex::bytes::RegexBuilder;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{Process, Rung, Signature, Source, Trigger};

/// Most signatures of one catalogue; several times what is known, and few enough to compile at once.
pub const SIGNATURES_MAX: usize = 512;
/// Most problems that one error lists: a file of another format would fill the log.
const PROBLEMS_MAX: usize = 100;
/// Longest id or kind in bytes; both are labels of metrics and columns of tables.
const NAME_BYTES_MAX: usize = 64;
/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 10;
/// Longest meaning or remedy, in bytes: a few sentences.
const PROSE_BYTES_MAX: usize = 2 << 10;
/// Largest compiled form of one pattern, in bytes. Counted repetitions multiply; none of the known
/// ones is near it.
pub(crate) const PATTERN_COMPILED_BYTES_MAX: usize = 256 << 10;

const KEYS: [&str; 10] =
    ["id", "source", "process", "pattern", "code", "signal", "meaning", "action", "remedy", "kind"];

/// Why a catalogue can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is larger than a catalogue can be.
    #[error("{} has over {limit_bytes} bytes: split off what is not needed", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// It was read and is wrong.
    #[error("{origin}:{}", list(problems))]
    Invalid {
        /// Where the text came from.
        origin: String,
        /// All that is wrong, in the file's order; never empty.
        problems: Vec<Problem>,
    },
}

/// One mistake in a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("\n  line {}: {}", p.line, p.what)).collect()
}

/// The signatures of a catalogue's text, in its order.
pub(crate) fn signatures(text: &str, origin: &str) -> Result<Vec<Signature>, CatalogueError> {
    let mut reader = Reader { text, problems: Vec::new() };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        reader.problem(&error.span().unwrap_or(0..0), error.message().to_owned());
    }
    // What the parser recovered from a broken text would add problems that are none.
    let signatures = if errors.is_empty() { reader.root(root.get_ref()) } else { Vec::new() };
    if reader.problems.is_empty() {
        return Ok(signatures);
    }
    reader.problems.sort_by_key(|problem| problem.line);
    Err(CatalogueError::Invalid { origin: origin.to_owned(), problems: reader.problems })
}

struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

type Value<'t> = Spanned<DeValue<'t>>;

impl Reader<'_> {
    fn problem(&mut self, at: &Range<usize>, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            let before = self.text.as_bytes().iter().take(at.start);
            let line = 1 + before.filter(|byte| **byte == b'\n').count();
            self.problems.push(Problem { line, what });
        }
    }

    fn root(&mut self, root: &DeTable<'_>) -> Vec<Signature> {
        let mut entries: &[Value<'_>] = &[];
        for (key, value) in root.iter() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("signature", DeValue::Array(array)) => entries = array,
                ("signature", _) => {
                    self.problem(&value.span(), "`signature` is written as [[signature]]".into());
                }
                (other, _) => {
                    self.problem(&key.span(), format!("unknown key `{other}`: [[signature]] only"));
                }
            }
        }
        if entries.len() > SIGNATURES_MAX {
            let at = entries.get(SIGNATURES_MAX).map_or(0..0, Spanned::span);
            self.problem(&at, format!("more than {SIGNATURES_MAX} signatures"));
            return Vec::new();
        }
        if entries.is_empty() && self.problems.is_empty() {
            self.problem(&(0..0), "no [[signature]]".into());
        }
        let signatures: Vec<_> =
            entries.iter().filter_map(|entry| Some((self.entry(entry)?, entry.span()))).collect();
        self.refuse_duplicates(&signatures);
        signatures.into_iter().map(|(signature, _)| signature).collect()
    }

    fn entry(&mut self, entry: &Value<'_>) -> Option<Signature> {
        let DeValue::Table(table) = entry.get_ref() else {
            self.problem(&entry.span(), "`signature` is written as [[signature]]".into());
            return None;
        };
        for (key, _) in table.iter() {
            if !KEYS.contains(&key.get_ref().as_ref()) {
                let what = format!("unknown key `{}`: one of {}", key.get_ref(), KEYS.join(", "));
                self.problem(&key.span(), what);
            }
        }
        let at = entry.span();
        let id = self.name(table, "id");
        if id.is_none() && !table.contains_key("id") {
            self.missing(&at, "id");
        }
        let source =
            self.choice(table, &at, "source", Source::from_name, &Source::ALL.map(Source::name));
        let action = self.choice(table, &at, "action", Rung::from_name, &Rung::ALL.map(Rung::name));
        if source == Some(Source::SystemLog) && action.is_some_and(|rung| rung != Rung::None) {
            let at = table.get("action").map_or(at.clone(), Spanned::span);
            let what = "source \"system-log\" takes action \"none\" only: it is a hint";
            self.problem(&at, what.into());
        }
        let process = self.process(table, &at, source);
        let meaning = self.prose(table, &at, "meaning");
        let remedy = self.prose(table, &at, "remedy");
        let kind = self.name(table, "kind");
        let trigger = self.trigger(table, &at, source);
        Some(Signature {
            id: id?,
            source: source?,
            process: process?,
            trigger: trigger?,
            meaning: meaning?,
            action: action?,
            remedy: remedy?,
            kind,
        })
    }

    fn missing(&mut self, at: &Range<usize>, key: &str) {
        self.problem(at, format!("`{key}` is missing"));
    }

    /// A text value that is there, with its place.
    fn text<'v>(
        &mut self,
        table: &'v DeTable<'_>,
        key: &str,
        bytes_max: usize,
    ) -> Option<(&'v str, Range<usize>)> {
        let value = table.get(key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.problem(&value.span(), format!("`{key}` is a string"));
            return None;
        };
        if text.trim().is_empty() || text.len() > bytes_max {
            self.problem(&value.span(), format!("`{key}` has 1 to {bytes_max} bytes"));
            return None;
        }
        Some((text, value.span()))
    }

    fn name(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let (text, at) = self.text(table, key, NAME_BYTES_MAX)?;
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if !text.split('-').all(word) {
            let what = format!("`{key}` is lower-case words joined by hyphens, not {text:?}");
            self.problem(&at, what);
            return None;
        }
        Some(text.to_owned())
    }

    fn prose(&mut self, table: &DeTable<'_>, at: &Range<usize>, key: &str) -> Option<String> {
        if !table.contains_key(key) {
            self.missing(at, key);
        }
        self.text(table, key, PROSE_BYTES_MAX).map(|(text, _)| text.to_owned())
    }

    fn choice<T>(
        &mut self,
        table: &DeTable<'_>,
        at: &Range<usize>,
        key: &str,
        find: fn(&str) -> Option<T>,
        names: &[&str],
    ) -> Option<T> {
        if !table.contains_key(key) {
            self.missing(at, key);
        }
        let (name, at) = self.text(table, key, NAME_BYTES_MAX)?;
        let found = find(name);
        if found.is_none() {
            self.problem(&at, format!("unknown {key} {name:?}: one of {}", names.join(", ")));
        }
        found
    }

    /// Whose output it is looked for in: the ranks', unless the entry says otherwise.
    fn process(
        &mut self,
        table: &DeTable<'_>,
        at: &Range<usize>,
        source: Option<Source>,
    ) -> Option<Process> {
        let Some(value) = table.get("process") else { return Some(Process::Rank) };
        if source.is_some_and(|source| source != Source::Output) {
            self.problem(&value.span(), "`process` is for source \"output\" only".into());
            return None;
        }
        self.choice(table, at, "process", Process::from_name, &Process::ALL.map(Process::name))
    }

    fn trigger(
        &mut self,
        table: &DeTable<'_>,
        at: &Range<usize>,
        source: Option<Source>,
    ) -> Option<Trigger> {
        let found =
            ["pattern", "code", "signal"].into_iter().filter(|key| table.contains_key(*key));
        let found: Vec<_> = found.collect();
        let source = source?;
        let allowed: &[&str] = match source {
            Source::Output
            | Source::CrashReport
            | Source::Jetsam
            | Source::Panic
            | Source::SystemLog => &["pattern"],
            Source::Exit => &["code", "signal"],
            Source::Symptom => &[],
        };
        match found.as_slice() {
            [] if source == Source::Symptom => Some(Trigger::Unmatched),
            [] => {
                let what = format!("source {:?} needs `{}`", source.name(), allowed.join("` or `"));
                self.problem(at, what);
                None
            }
            [key] if allowed.contains(key) => match *key {
                "pattern" => self.pattern(table),
                "code" => self.number(table, "code", 0..=255).map(Trigger::Code),
                // 64 is the last signal of any system served.
                _ => self.number(table, "signal", 1..=64).map(Trigger::Signal),
            },
            keys => {
                let at = keys.iter().find(|key| !allowed.contains(key)).or(keys.last());
                let at = at.and_then(|key| table.get(*key)).map_or(0..0, Spanned::span);
                let what = match allowed {
                    [] => format!("source {:?} takes no pattern, code or signal", source.name()),
                    _ => format!("source {:?} takes one of: {}", source.name(), allowed.join(", ")),
                };
                self.problem(&at, what);
                None
            }
        }
    }

    fn pattern(&mut self, table: &DeTable<'_>) -> Option<Trigger> {
        let (pattern, at) = self.text(table, "pattern", PATTERN_BYTES_MAX)?;
        let built = RegexBuilder::new(pattern)
            .unicode(false)
            .size_limit(PATTERN_COMPILED_BYTES_MAX)
            .build();
        match built {
            Ok(regex) if regex.is_match(b"") => {
                self.problem(&at, "`pattern` matches an empty text, so it would match any".into());
                None
            }
            Ok(_) => Some(Trigger::Pattern(pattern.to_owned())),
            Err(error) => {
                // The last line of a syntax error is its reason; the lines before point at it.
                let error = error.to_string();
                let reason = error.lines().next_back().unwrap_or_default();
                self.problem(
                    &at,
                    format!("bad `pattern`: {}", reason.trim_start_matches("error: ")),
                );
                None
            }
        }
    }

    fn number(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        range: std::ops::RangeInclusive<i32>,
    ) -> Option<i32> {
        let value = table.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => i32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let what = format!("`{key}` is a number from {} to {}", range.start(), range.end());
            self.problem(&value.span(), what);
        }
        number
    }

    /// The same id, or the same trigger of the same source: the second could never be found.
    fn refuse_duplicates(&mut self, signatures: &[(Signature, Range<usize>)]) {
        let mut ids: HashMap<&str, ()> = HashMap::new();
        let mut triggers: HashMap<String, &str> = HashMap::new();
        for (signature, at) in signatures {
            if ids.insert(&signature.id, ()).is_some() {
                self.problem(at, format!("the id {:?} is taken", signature.id));
            }
            if signature.trigger == Trigger::Unmatched {
                continue;
            }
            let trigger = format!("{:?} {:?}", signature.source, signature.trigger);
            if let Some(first) = triggers.insert(trigger, &signature.id) {
                let what = format!("{:?} matches the same as {first:?}", signature.id);
                self.problem(at, what);
            }
        }
    }
}
