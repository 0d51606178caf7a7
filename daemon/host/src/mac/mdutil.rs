//! Spotlight: `/usr/bin/mdutil -a -s`.
//!
//! Source: mdutil(1): for each volume its path and a colon, and on the next line its state. The
//! exit status is not reliable, so only the text is read.

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "mdutil -a -s";

/// What Spotlight does with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// `Indexing enabled.`
    Enabled,
    /// `Indexing disabled.`
    Disabled,
    /// `Indexing and searching disabled.`
    SearchingDisabled,
    /// `No index.`
    NoIndex,
    /// `Index is read-only.`: the volume is short of space; indexing goes on when it has some.
    ReadOnly,
    /// `Error: unknown indexing state.`
    Unknown,
}

impl Indexing {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "Indexing enabled." => Self::Enabled,
            "Indexing disabled." => Self::Disabled,
            "Indexing and searching disabled." => Self::SearchingDisabled,
            "No index." => Self::NoIndex,
            "Index is read-only." => Self::ReadOnly,
            "Error: unknown indexing state." => Self::Unknown,
            _ => return None,
        })
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it is mounted.
    pub path: String,
    /// What is done with it.
    pub indexing: Indexing,
}

/// Reads the whole answer.
///
/// # Errors
/// No volume, a volume without a state, or a line that is neither.
pub fn parse(text: &str) -> Result<Vec<Volume>, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let mut volumes = Vec::new();
    let mut path: Option<&str> = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let wrong = |wanted| Err(Unparsed::form(TOOL, wanted, line));
        if let Some(next) = line.trim_end().strip_suffix(':').filter(|p| p.starts_with('/')) {
            if path.replace(next).is_some() {
                return wrong("the state of the volume before");
            }
            continue;
        }
        match (path.take(), Indexing::of(line.trim())) {
            (Some(path), Some(indexing)) => volumes.push(Volume { path: path.into(), indexing }),
            (Some(_), None) => return wrong("a known indexing state"),
            (None, _) => return wrong("a volume's path and a colon"),
        }
    }
    if let Some(path) = path {
        return Err(Unparsed::form(TOOL, "the state of the last volume", path));
    }
    if volumes.is_empty() {
        return Err(Unparsed::form(TOOL, "a volume's path and a colon", text));
    }
    Ok(volumes)
}

/// For `SpotlightOff`: the volumes that are indexed. `mdutil` knows no state for some of the
/// system's own volumes, on which there is nothing to index; those are left out.
///
/// # Errors
/// No volume is known to be indexed, but the state of one that holds files is unknown.
pub fn spotlight_off(volumes: &[Volume]) -> Result<Found, Unparsed> {
    let indexed =
        |volume: &&Volume| matches!(volume.indexing, Indexing::Enabled | Indexing::ReadOnly);
    let names: Vec<String> = volumes.iter().filter(indexed).map(|v| v.path.clone()).collect();
    let unknown = volumes
        .iter()
        .find(|v| v.indexing == Indexing::Unknown && !is_system_only(&v.path))
        .filter(|_| names.is_empty());
    match unknown {
        Some(volume) => Err(Unparsed::form(TOOL, "a known indexing state of", &volume.path)),
        None => Ok(Found::Names(names)),
    }
}

/// Volumes of the start-up disk that hold no user's file: all under `/System/Volumes` but `Data`.
fn is_system_only(path: &str) -> bool {
    path.strip_prefix("/System/Volumes/")
        .is_some_and(|rest| rest != "Data" && !rest.starts_with("Data/"))
}
