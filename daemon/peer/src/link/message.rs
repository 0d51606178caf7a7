//! What crosses a connection: frames of a little-endian `u32` body length and that many bytes of
//! JSON. Docs: `docs/peer-protocol.md`.

use std::{fmt, io};

use serde::{Deserialize, Serialize};
use tandem_policy::{
    PORTS_MAX,
    pair::{COMPONENTS_MAX, FAULTS_TOLD_MAX, NODES_MAX, NodeReport, RANKS_MAX, fabric::Carrier},
};
use tandem_wire::Session;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::identity::Fingerprint;
use crate::manifest::ManifestEntry;

/// Raised whenever a message changes its meaning or its fields.
pub const PROTOCOL_VERSION: u32 = 2;

/// Largest frame, in bytes. A report with all its lists full and texts cut is about 60 KB.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 10;

/// Largest frame with a list of files, in bytes: [`crate::manifest::FILES_MAX`] rows of about 200.
pub(super) const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Longest reason that is given for a refusal, in characters.
pub(super) const REASON_CHARS_MAX: usize = 200;

/// What one side says. The dialler asks, the listener answers; one at a time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Message {
    /// The dialler's account; asks for the listener's.
    Ask(Account),
    /// The listener's account.
    Answer(Account),
    /// Asks for the list of the model's files.
    AskManifest {},
    /// That list; absent where there is none, or it is too long to be told.
    Manifest {
        /// Its rows.
        files: Option<Vec<ManifestEntry>>,
    },
    /// Bytes without meaning follow the frame, to measure the path.
    Bulk {
        /// How many; at most [`super::throughput::CHUNK_BYTES`].
        size_bytes: u32,
    },
    /// They were received.
    BulkDone {},
    /// The listener ends the connection.
    Refused {
        /// Why, cut.
        reason: String,
    },
}

/// One node's account of itself at one moment.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    /// Of the supervisor's process: random, another one after each start.
    pub(super) instance: String,
    /// Rises with every account of this instance, on whatever path.
    pub(super) number: u64,
    /// For how long the supervisor has not said anything newer, in milliseconds: a supervisor that
    /// hangs must not seem alive because this connection is.
    pub(super) age_ms: u64,
    /// What it last said; absent until it said anything.
    pub(super) report: Option<NodeReport>,
    /// What the epoch's processes know each other by.
    pub(super) secrets: Secrets,
}

/// What the processes of one epoch know each other by. It is told to paired nodes only, is never
/// written to disk, and can't be printed.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The key of the ranks' control channel, from the node with rank 0.
    pub session: Option<Session>,
    /// What this node's gateway is to be asked with.
    pub gateway_key: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("session", &self.session)
            .field("gateway_key", &self.gateway_key.as_ref().map(|_| "..."))
            .finish()
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        fn parts(secrets: &Secrets) -> (Option<(u64, &str)>, Option<&str>) {
            let session = secrets.session.as_ref();
            (session.map(|s| (s.epoch, s.control_key.as_str())), secrets.gateway_key.as_deref())
        }
        parts(self) == parts(other)
    }
}

impl Eq for Secrets {}

impl Account {
    /// Why this is not the account of a node of this name; `Ok` if it may be.
    pub(super) fn check(&self, node: &str) -> Result<(), WireError> {
        let Some(report) = &self.report else { return Ok(()) };
        let wrong = |what: &str| Err(WireError::Malformed(what.to_owned()));
        if report.node != node {
            return Err(WireError::OtherName { pinned: node.into(), said: cut(&report.node) });
        }
        match () {
            () if report.plan.len() > COMPONENTS_MAX => wrong("a report has too many components"),
            () if report.ranks.len() > RANKS_MAX => wrong("a report has too many ranks"),
            () if report.faults.len() > FAULTS_TOLD_MAX => wrong("a report has too many faults"),
            () if report.thunderbolt.as_ref().is_some_and(|ports| ports.len() > PORTS_MAX) => {
                wrong("a report has too many Thunderbolt ports")
            }
            () if has_too_many_devices(report) => wrong("a report has too many RDMA devices"),
            () => Ok(()),
        }
    }
}

/// Whether the matrix of an epoch's devices is larger than there can be nodes.
fn has_too_many_devices(report: &NodeReport) -> bool {
    match report.start.as_ref().map(|start| &start.carrier) {
        Some(Carrier::Jaccl { devices }) => {
            devices.len() > NODES_MAX || devices.iter().any(|row| row.len() > NODES_MAX)
        }
        _ => false,
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The other side ended it between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// It failed, or ended inside a frame.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A time limit passed.
    #[error("no {0} in time")]
    Timeout(&'static str),
    /// A frame over its limit.
    #[error("a frame of {size_bytes} bytes is over the limit of {limit_bytes}")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The other side speaks another version of this protocol.
    #[error(
        "it speaks version {0} of the protocol, and this node {PROTOCOL_VERSION}; install the same \
         version of Tandem on both"
    )]
    OtherVersion(u32),
    /// Not a message, or not one that may come now.
    #[error("what it said makes no sense: {0}")]
    Malformed(String),
    /// It calls itself something else than what its key was pinned as.
    #[error(
        "it calls itself {said:?}, but its key was pinned for {pinned:?}; make node.name there \
             and the peer's name here the same"
    )]
    OtherName {
        /// The name of the pin.
        pinned: String,
        /// What it said.
        said: String,
    },
    /// Nobody that is trusted here.
    #[error("the certificate {0} is of no node that is paired and in the config")]
    Stranger(Fingerprint),
    /// The other side said why it ended it.
    #[error("refused by it: {0}")]
    Refused(String),
}

impl WireError {
    /// A message that may not come now. It is not shown: it may hold secrets.
    pub(super) fn unexpected(message: &Message) -> Self {
        let name = match message {
            Message::Ask(_) => "a question",
            Message::Answer(_) => "an answer",
            Message::AskManifest {} => "a question for files",
            Message::Manifest { .. } => "a list of files",
            Message::Bulk { .. } => "bulk",
            Message::BulkDone {} => "the receipt of bulk",
            Message::Refused { .. } => "a refusal",
        };
        Self::Malformed(format!("{name} can't come now"))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    v: u32,
    body: T,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// A message as a whole frame.
pub(super) fn encode(message: &Message) -> Result<Vec<u8>, WireError> {
    let mut frame = vec![0; 4];
    let envelope = Envelope { v: PROTOCOL_VERSION, body: message };
    serde_json::to_writer(&mut frame, &envelope)
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    let size_bytes = frame.len().saturating_sub(4);
    let limit_bytes = match message {
        Message::Manifest { .. } => MANIFEST_BYTES_MAX,
        _ => FRAME_BYTES_MAX,
    };
    if size_bytes > limit_bytes {
        return Err(WireError::TooLarge { size_bytes, limit_bytes });
    }
    if let Some(prefix) = frame.first_chunk_mut() {
        *prefix = (size_bytes as u32).to_le_bytes();
    }
    Ok(frame)
}

/// A message from a frame's body.
pub(super) fn decode(body: &[u8]) -> Result<Message, WireError> {
    let error = match serde_json::from_slice::<Envelope<Message>>(body) {
        Ok(envelope) if envelope.v == PROTOCOL_VERSION => return Ok(envelope.body),
        Ok(envelope) => return Err(WireError::OtherVersion(envelope.v)),
        Err(error) => error,
    };
    // What another version says need not parse here.
    match serde_json::from_slice::<Version>(body) {
        Ok(version) if version.v != PROTOCOL_VERSION => Err(WireError::OtherVersion(version.v)),
        _ => Err(WireError::Malformed(cut(&error.to_string()))),
    }
}

/// Reads one message whose body may have this many bytes.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    limit_bytes: usize,
) -> Result<Message, WireError> {
    let mut prefix = [0; 4];
    let first = stream.read(&mut prefix[..1]).await?;
    if first == 0 {
        return Err(WireError::Closed);
    }
    stream.read_exact(&mut prefix[1..]).await?;
    let size_bytes = u32::from_le_bytes(prefix) as usize;
    // Before memory is taken for it.
    if size_bytes > limit_bytes {
        return Err(WireError::TooLarge { size_bytes, limit_bytes });
    }
    let mut body = vec![0; size_bytes];
    stream.read_exact(&mut body).await?;
    match decode(&body)? {
        Message::Refused { reason } => Err(WireError::Refused(cut(&reason))),
        message => Ok(message),
    }
}

/// Writes one message.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &Message,
) -> Result<(), WireError> {
    stream.write_all(&encode(message)?).await?;
    Ok(stream.flush().await?)
}

/// Foreign text, safe to show: one line, not long.
pub(super) fn cut(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(REASON_CHARS_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests;
