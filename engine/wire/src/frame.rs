//! Length-prefixed JSON frames over any byte stream.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Largest body of a frame, in bytes. A prompt of a million token ids is about 8 MB of JSON, more
/// than any context served here; whoever sends more is broken or hostile and is cut off.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Why a frame could not be read or written. After any of these the connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// The stream failed, or ended inside a frame.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The announced or encoded body is over [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLarge(usize),
    /// The body is not the JSON of the expected message.
    #[error("a frame does not parse")]
    Malformed(#[source] serde_json::Error),
}

/// Encodes one message as a whole frame, length prefix included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Malformed)?;
    let body = frame.len() - 4;
    if body > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(body));
    }
    frame[..4].copy_from_slice(&(body as u32).to_le_bytes());
    Ok(frame)
}

/// Decodes the body of one frame (without its length prefix).
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(FrameError::Malformed)
}

/// Writes one message and flushes.
pub fn write_frame<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    let frame = encode(message)?;
    stream.write_all(&frame).map_err(FrameError::Io)?;
    stream.flush().map_err(FrameError::Io)
}

/// Reads one message; blocks until it is whole. A clean end between frames is
/// [`FrameError::Closed`].
pub fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> Result<T, FrameError> {
    let mut prefix = [0; 4];
    let mut filled = 0;
    while filled < prefix.len() {
        match stream.read(&mut prefix[filled..]) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(FrameError::Io(e)),
        }
    }
    let length = u32::from_le_bytes(prefix) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(FrameError::Io)?;
    decode(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_and_a_clean_end_is_told_from_a_cut() {
        let mut stream = encode(&"one").unwrap();
        stream.extend(encode(&"two").unwrap());
        let mut reader = stream.as_slice();
        assert_eq!(read_frame::<String>(&mut reader).unwrap(), "one");
        assert_eq!(read_frame::<String>(&mut reader).unwrap(), "two");
        assert!(matches!(read_frame::<String>(&mut reader), Err(FrameError::Closed)));
        let mut cut = &stream[..stream.len() - 1];
        read_frame::<String>(&mut cut).unwrap();
        assert!(matches!(read_frame::<String>(&mut cut), Err(FrameError::Io(_))));
    }

    #[test]
    fn an_oversized_announcement_is_refused_before_memory_is_taken() {
        let mut reader: &[u8] = &u32::MAX.to_le_bytes();
        let result = read_frame::<String>(&mut reader);
        assert!(matches!(result, Err(FrameError::TooLarge(n)) if n == u32::MAX as usize));
    }

    #[test]
    fn a_body_that_is_not_the_message_is_malformed() {
        let frame = encode(&vec![1, 2]).unwrap();
        let result = read_frame::<String>(&mut frame.as_slice());
        assert!(matches!(result, Err(FrameError::Malformed(_))));
    }
}
