//! The one error of every parser here: what was wanted and what was seen.

/// Most of an answer that an error repeats, in bytes: some lines, enough to see the form.
pub const SEEN_BYTES_MAX: usize = 200;

/// Longest answer of a text tool that is parsed, in bytes. The longest recorded one, `ifconfig -a`
/// of a Mac Studio with virtual machines, is under 10 KiB.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// An answer that can't be used. The invariant that asked is unknown, which is not healthy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unparsed {
    /// It is longer than any answer that was ever seen.
    #[error(
        "`{tool}` answered {size_bytes} bytes, more than the {max_bytes} that are read; \
         run it by hand and look at what it prints"
    )]
    TooLong {
        /// The command or socket.
        tool: &'static str,
        /// How long it is.
        size_bytes: usize,
        /// How long it may be.
        max_bytes: usize,
    },
    /// It is in a form that is not known.
    #[error(
        "`{tool}` answered in an unknown form: wanted {wanted}, saw {seen:?}; \
         run it by hand and report its output with the macOS version"
    )]
    Form {
        /// The command or socket.
        tool: &'static str,
        /// What the known form has there.
        wanted: &'static str,
        /// What is there, cut to [`SEEN_BYTES_MAX`].
        seen: String,
    },
    /// It is understood, and does not hold what was asked for. Some keys are printed only by Macs
    /// that have the feature.
    #[error("`{tool}` does not say {what}; run it by hand and look at what it prints")]
    Absent {
        /// The command or socket.
        tool: &'static str,
        /// What was asked for.
        what: &'static str,
    },
}

impl Unparsed {
    /// An unknown form; `seen` is cut.
    pub(super) fn form(tool: &'static str, wanted: &'static str, seen: &str) -> Self {
        let (seen, _) = seen.split_at(seen.floor_char_boundary(SEEN_BYTES_MAX));
        let seen = seen.to_owned();
        Self::Form { tool, wanted, seen }
    }

    /// Refuses an answer longer than `max_bytes`.
    pub(super) fn bound(tool: &'static str, size: usize, max_bytes: usize) -> Result<(), Self> {
        if size <= max_bytes {
            return Ok(());
        }
        Err(Self::TooLong { tool, size_bytes: size, max_bytes })
    }
}
