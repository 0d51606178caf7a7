//! The job's property list, as far as it must be right before root has launchd load it.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
};

use super::LABEL;

/// Most bytes of a property list that are read: ours has two thousand.
const BYTES_MAX: u64 = 64 * 1024;

/// What is read of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JobFile {
    /// What launchd starts, absolute.
    pub(super) program: PathBuf,
}

/// Why it is not one.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobFileError {
    #[error("can't read {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no property list of this job: {why}; install the package again", path.display())]
    Wrong { path: PathBuf, why: String },
}

impl JobFile {
    /// Reads it.
    pub(super) fn read(path: &Path) -> Result<Self, JobFileError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|source| JobFileError::Io { path: path.into(), source })?;
        Self::parse(&bytes).map_err(|why| JobFileError::Wrong { path: path.into(), why })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > BYTES_MAX {
            return Err(format!("it has more than {BYTES_MAX} bytes"));
        }
        let value =
            plist::Value::from_reader(Cursor::new(bytes)).map_err(|error| error.to_string())?;
        let job = value.as_dictionary().ok_or("it is not a dictionary")?;
        match job.get("Label").and_then(plist::Value::as_string) {
            Some(LABEL) => {}
            Some(other) => return Err(format!("Label is {other:?}, not {LABEL:?}")),
            None => return Err("it has no Label".to_owned()),
        }
        // launchd takes Program before the first of ProgramArguments.
        if job.contains_key("Program") {
            return Err("it has a Program beside ProgramArguments".to_owned());
        }
        let arguments = job.get("ProgramArguments").and_then(plist::Value::as_array);
        let program = arguments.and_then(|all| all.first()).and_then(plist::Value::as_string);
        match program.map(PathBuf::from) {
            Some(program) if program.is_absolute() => Ok(Self { program }),
            _ => Err("ProgramArguments does not begin with an absolute path".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_one_is_read_and_others_are_refused_with_why() {
        let shipped =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../launchd/io.tandem.supervise.plist");
        let job = JobFile::read(&shipped).unwrap();
        assert_eq!(job.program, Path::new("/usr/local/libexec/tandem/tandem"));

        let text = std::fs::read_to_string(&shipped).unwrap();
        for (from, to, part) in [
            ("<string>io.tandem.supervise</string>", "<string>io.other</string>", "io.other"),
            ("<key>Label</key>", "<key>Name</key>", "no Label"),
            (
                "<key>RunAtLoad</key>",
                "<key>Program</key><string>/x</string><key>R</key>",
                "Program",
            ),
            ("<string>/usr/local/libexec/tandem/tandem<", "<string>tandem<", "absolute"),
            ("<key>ProgramArguments</key>", "<key>Arguments</key>", "ProgramArguments"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let why = JobFile::parse(changed.as_bytes()).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        assert!(JobFile::parse(&text.as_bytes()[..text.len() / 2]).is_err(), "it is cut");
        let long = " ".repeat(usize::try_from(BYTES_MAX).unwrap() + 1);
        assert!(JobFile::parse(long.as_bytes()).unwrap_err().contains("more than"));
    }
}
