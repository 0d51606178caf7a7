//! Frames of the pairing port: a kind, a length of two bytes (big endian), a body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest body: an introduction with its certificate and tag. Eight connections can so make an
/// offer hold 40 KiB, and a stranger before its hello no more than [`HELLO_BYTES_MAX`] each.
pub(super) const BODY_BYTES_MAX: usize = 5 * 1024;

/// Longest body of a hello: the name and version of the protocol, and a message of the key
/// exchange, 45 bytes; the rest is for longer ones of later versions, so that they can be told
/// that they are not understood.
pub(super) const HELLO_BYTES_MAX: usize = 128;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Protocol, version and a message of the key exchange.
    Hello,
    /// Who the sender is; proves that it knows the code.
    Introduction,
    /// What the sender makes of the other's introduction; authenticated.
    Verdict,
    /// The exchange ends here; not authenticated, so only a hint.
    Refused,
}

impl Kind {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Introduction => 2,
            Self::Verdict => 3,
            Self::Refused => 4,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Introduction,
            3 => Self::Verdict,
            4 => Self::Refused,
            _ => return None,
        })
    }

    const fn body_bytes_max(self) -> usize {
        match self {
            Self::Hello => HELLO_BYTES_MAX,
            Self::Introduction => BODY_BYTES_MAX,
            // A verdict is one byte and a tag, a refusal three.
            Self::Verdict | Self::Refused => 64,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
}

impl Frame {
    /// The frame as bytes; a body never is longer than its kind may be, because it was made here.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = u16::try_from(self.body.len()).unwrap_or(u16::MAX);
        let mut bytes = vec![self.kind.number()];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub(super) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        stream.write_all(&self.bytes()).await?;
        stream.flush().await
    }

    /// Reads one frame of one of these kinds. Anything else, or more than the kind may hold, is
    /// `InvalidData`, before its body is read.
    pub(super) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        kinds: &[Kind],
    ) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let kind = Kind::of(stream.read_u8().await?)
            .filter(|kind| kinds.contains(kind))
            .ok_or_else(|| invalid("a frame that does not belong here"))?;
        let length = usize::from(stream.read_u16().await?);
        if length > kind.body_bytes_max() {
            return Err(invalid("a frame that is too long"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        Ok(Self { kind, body })
    }
}
