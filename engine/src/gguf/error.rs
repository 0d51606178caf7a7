//! What can go wrong in an import.

use std::io;
use std::path::{Path, PathBuf};

use crate::EngineError;
use crate::model_config::ConfigError;

/// Why a GGUF file was not imported. Nothing is left behind under the final name.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The system refused to read or write.
    #[error("{what} {path}")]
    Io {
        /// What was tried, e.g. "can't read".
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is damaged, inconsistent or holds something this engine does not do.
    #[error("{path}: {reason}")]
    Refused {
        /// The GGUF file.
        path: PathBuf,
        /// What is wrong, by key or tensor, and what to do about it.
        reason: String,
    },
    /// The name for the model can't be used.
    #[error("the model name {name:?} {reason}")]
    Name {
        /// The name.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A different model has this name.
    #[error("{dir} exists and is another model; remove it or choose a name with --name")]
    Exists {
        /// Its folder.
        dir: PathBuf,
    },
    /// The folder just written does not load. A bug of ours or a config the file should not have.
    #[error("{path}: the imported model would not load: {source}")]
    Unloadable {
        /// The GGUF file.
        path: PathBuf,
        /// What loading said.
        source: ConfigError,
    },
}

impl ImportError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Io { what: "can't read", path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Io { what: "can't write", path: path.to_owned(), source }
    }
}

impl From<ImportError> for EngineError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Io { what, path, source } => {
                EngineError::Os { what: format!("{what} {}", path.display()), source }
            }
            ImportError::Name { .. } => EngineError::Usage(error.to_string()),
            _ => EngineError::Model(error.to_string()),
        }
    }
}

/// A reason to refuse the file; the path is added where it is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// As [`ImportError::Refused`].
    Bad(String),
    /// Reading failed.
    Io(io::Error),
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> ImportError {
        match self {
            Fault::Bad(reason) => ImportError::Refused { path: path.to_owned(), reason },
            Fault::Io(source) => ImportError::read(path, source),
        }
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Bad(reason)
    }
}

impl From<io::Error> for Fault {
    fn from(source: io::Error) -> Self {
        Fault::Io(source)
    }
}
