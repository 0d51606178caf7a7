//! The ledger, opened for the commands that tell what was.

use std::{error::Error, fs::File, io, path::Path};

use tandem_ledger::{LedgerError, Reader};

use crate::exit;

/// Why the ledger can't be asked.
#[derive(Debug)]
pub(super) struct NoPast {
    /// In words, with what to do.
    pub(super) why: String,
    /// The exit code of a command that needs it.
    pub(super) code: i32,
}

/// Opens the ledger of a folder.
pub(super) fn open(folder: &Path) -> Result<Reader, NoPast> {
    // SQLite says of a file that it may not open only that it can't.
    let path = folder.join("ledger.db");
    if let Err(error) = File::open(&path)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        let why = format!("{} is not for this user; use sudo", path.display());
        return Err(NoPast { why, code: exit::NEEDS_ROOT });
    }
    Reader::open(folder).map_err(NoPast::from)
}

impl From<LedgerError> for NoPast {
    fn from(error: LedgerError) -> Self {
        Self { why: chain(&error), code: exit::UNAVAILABLE }
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
