//! The catalogue: signatures, compiled and matched.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    sync::LazyLock,
};

use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::{
    CatalogueError, Exit, LogLine, Problem, Process, Report, Signature, Source, Trigger, Writer,
    explain, parse, text,
};

/// Largest catalogue file, in bytes; the built-in one has some ten thousands.
pub const CATALOGUE_BYTES_MAX: u64 = 1 << 20;
/// How much of a line is looked at, in bytes. What is known stands at the beginning of a line; a
/// longer one is a dump.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// Largest compiled form of all patterns of one source, in bytes.
const COMPILED_BYTES_MAX: usize = 32 << 20;

static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| {
    let text = include_str!("../../../config/signatures.toml");
    // A test loads it, so this is never taken. If it were, a supervisor that knows no signature is
    // of more use than one that ends.
    Catalogue::parse(text, "the built-in catalogue").unwrap_or_default()
});

/// Known signatures, in the order of their file: the first that matches is the answer, so the more
/// specific one of two stands first.
#[derive(Debug, Default)]
pub struct Catalogue {
    signatures: Vec<Signature>,
    output: Patterns,
    crash: Patterns,
    jetsam: Patterns,
    panic: Patterns,
    system_log: Patterns,
}

/// The patterns of one source.
#[derive(Debug, Default)]
struct Patterns {
    set: RegexSet,
    /// Places of the patterns' signatures, in the order of the set.
    places: Vec<usize>,
}

impl Patterns {
    fn of(signatures: &[Signature], source: Source) -> Result<Self, regex::Error> {
        let (places, patterns): (Vec<_>, Vec<_>) = signatures
            .iter()
            .enumerate()
            .filter(|(_, signature)| signature.source == source)
            .filter_map(|(place, signature)| match &signature.trigger {
                Trigger::Pattern(pattern) => Some((place, pattern)),
                _ => None,
            })
            .unzip();
        // What is matched are programs' own messages in ASCII; tables of all of Unicode would be most
        // of the supervisor's memory.
        let set =
            RegexSetBuilder::new(patterns).unicode(false).size_limit(COMPILED_BYTES_MAX).build()?;
        Ok(Self { set, places })
    }

    /// Places of the signatures that match, in the catalogue's order.
    fn matches(&self, text: &str) -> impl Iterator<Item = usize> {
        let found = self.set.matches(text.as_bytes());
        found.into_iter().filter_map(|pattern| self.places.get(pattern).copied())
    }
}

impl Catalogue {
    /// The one that is compiled in.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// Reads a catalogue's text. `origin` names it in errors: a path, say.
    ///
    /// # Errors
    /// [`CatalogueError::Invalid`] with all that is wrong, each with its line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, CatalogueError> {
        let signatures = parse::signatures(text, origin)?;
        let patterns = |source| {
            Patterns::of(&signatures, source).map_err(|error| CatalogueError::Invalid {
                origin: origin.to_owned(),
                problems: vec![Problem {
                    line: 1,
                    what: format!("the patterns of {:?} together: {error}", source.name()),
                }],
            })
        };
        Ok(Self {
            output: patterns(Source::Output)?,
            crash: patterns(Source::CrashReport)?,
            jetsam: patterns(Source::Jetsam)?,
            panic: patterns(Source::Panic)?,
            system_log: patterns(Source::SystemLog)?,
            signatures,
        })
    }

    /// Reads a catalogue from a file of at most [`CATALOGUE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// Those of [`Catalogue::parse`], or that the file can't be read or is too large.
    pub fn load(path: &Path) -> Result<Self, CatalogueError> {
        let failed = |source| CatalogueError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        // Opening a FIFO would wait for a writer; a device may have no end.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        let file = File::open(path).map_err(failed)?;
        file.take(CATALOGUE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > CATALOGUE_BYTES_MAX {
            let limit_bytes = CATALOGUE_BYTES_MAX;
            return Err(CatalogueError::TooLarge { path: path.to_owned(), limit_bytes });
        }
        Self::parse(&text, &path.display().to_string())
    }

    /// All signatures, in the file's order.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The signature of that id.
    pub fn get(&self, id: &str) -> Option<&Signature> {
        self.signatures.iter().find(|signature| signature.id == id)
    }

    /// What a line of a child's output says. Only its first [`LINE_BYTES_MAX`] bytes are looked at; of
    /// the gateway's, only what stands before the first thing that it quotes, since there begin the words
    /// of clients: they choose ids, paths and names, and no word of theirs is evidence.
    pub fn match_output(&self, writer: Writer, line: &str) -> Option<&Signature> {
        let (line, is_its): (_, fn(Process) -> bool) = match writer {
            Writer::Rank => (line, |process| process != Process::Other),
            Writer::Gateway => (text::own_words(line), |process| process == Process::Any),
        };
        self.all_in_text(Source::Output, line).find(|signature| is_its(signature.process))
    }

    /// What the end of a child says.
    pub fn match_exit(&self, ended: &Exit) -> Option<&Signature> {
        let wanted = match ended {
            Exit::Code(code) => Trigger::Code(*code),
            Exit::Signal(signal) => Trigger::Signal(*signal),
        };
        self.signatures.iter().find(|signature| signature.trigger == wanted)
    }

    /// What a report of the system says: of [`Report::text`], by the report's own source. It says
    /// what happened, not to whom: whether the process was one of ours is for the caller to compare.
    pub fn match_report(&self, report: &Report) -> Option<&Signature> {
        self.patterns(report.source())?
            .matches(&report.text())
            .next()
            .and_then(|p| self.signatures.get(p))
    }

    /// What a message of the system's log hints at.
    pub fn match_system_log(&self, line: &LogLine) -> Option<&Signature> {
        self.all_in_text(Source::SystemLog, &line.text).next()
    }

    /// What is known about `text`, best first, at most [`crate::EXPLAIN_MAX`]: it is an id, or a
    /// pasted line of a log, or words that occur in an id or a meaning, which is then only a guess.
    pub fn explain(&self, text: &str) -> Vec<explain::Explanation<'_>> {
        explain::explain(self, text)
    }

    /// All signatures of a source that match a line, in the catalogue's order.
    pub(crate) fn all_in_text(
        &self,
        source: Source,
        line: &str,
    ) -> impl Iterator<Item = &Signature> {
        let places =
            self.patterns(source).map(|patterns| patterns.matches(text::cut(line, LINE_BYTES_MAX)));
        places.into_iter().flatten().filter_map(|place| self.signatures.get(place))
    }

    fn patterns(&self, source: Source) -> Option<&Patterns> {
        match source {
            Source::Output => Some(&self.output),
            Source::CrashReport => Some(&self.crash),
            Source::Jetsam => Some(&self.jetsam),
            Source::Panic => Some(&self.panic),
            Source::SystemLog => Some(&self.system_log),
            Source::Exit | Source::Symptom => None,
        }
    }
}
