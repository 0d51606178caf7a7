//! Keys of the control channel, and frames that nobody without them can make or change.

use std::io::{self, Read, Write};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Serialize, de::DeserializeOwned};
use sha2::Sha256;
use tandem_wire::{FRAME_BYTES_MAX, FrameError};

use crate::EngineError;

/// Bytes of a frame's tag: half of HMAC-SHA256's, as RFC 2104 allows; 2^-128 is forged by nobody.
pub(super) const TAG_BYTES: usize = 16;

/// The epoch's secret, from [`tandem_wire::Session::control_key`].
#[derive(Clone)]
pub struct ControlKey([u8; 32]);

impl ControlKey {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, EngineError> {
        let bytes = decode_hex(hex).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| {
            EngineError::Usage("the session's control_key is not 64 hexadecimal digits".to_owned())
        })
    }

    /// HMAC-SHA256 of `parts` under this key, each preceded by its length so that no two lists of
    /// parts look alike.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.hmac(parts).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, parts: &[&[u8]], tag_hex: &str) -> bool {
        let tag = decode_hex(tag_hex).unwrap_or_default();
        self.hmac(parts).verify_slice(&tag).is_ok()
    }

    fn hmac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut hmac = keyed(&self.0);
        for part in parts {
            hmac.update(&(part.len() as u64).to_le_bytes());
            hmac.update(part);
        }
        hmac
    }

    /// The two directions of one connection: this side's sealer, the other side's opener.
    pub(super) fn session(&self, transcript: &[u8], leader: bool) -> (Sealer, Opener) {
        let down = self.mac(&[b"tandem control down", transcript]);
        let up = self.mac(&[b"tandem control up", transcript]);
        let (out, back) = if leader { (down, up) } else { (up, down) };
        (Sealer { key: out, next: 0 }, Opener { key: back, next: 0 })
    }
}

impl std::fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ControlKey(secret)")
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC itself pads a key shorter than SHA-256's block of 64 bytes with zeros; doing it here
    // leaves no length that could be wrong.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::new(&block.into())
}

fn frame_mac(key: &[u8; 32], number: u64, frame: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed(key);
    mac.update(&number.to_le_bytes());
    mac.update(frame);
    mac
}

/// Seals the frames of one direction.
pub(super) struct Sealer {
    key: [u8; 32],
    next: u64,
}

impl Sealer {
    /// The bytes to send for `message`.
    pub(super) fn seal(&mut self, message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
        let mut frame = tandem_wire::encode(message)?;
        let tag = frame_mac(&self.key, self.next, &frame).finalize().into_bytes();
        self.next += 1;
        frame.extend_from_slice(&tag[..TAG_BYTES]);
        Ok(frame)
    }

    pub(super) fn write(
        &mut self,
        stream: &mut impl Write,
        message: &impl Serialize,
    ) -> Result<(), FrameError> {
        stream.write_all(&self.seal(message)?).map_err(FrameError::Io)
    }
}

/// Opens the frames of one direction, in order.
pub(super) struct Opener {
    key: [u8; 32],
    next: u64,
}

/// Why a sealed frame could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("frame {0} of the control channel is not from who it should be")]
    Forged(u64),
}

impl Opener {
    /// Reads one frame, of at most `bytes_max` bytes, and checks its tag before it is parsed.
    pub(super) fn read<T: DeserializeOwned>(
        &mut self,
        stream: &mut impl Read,
        bytes_max: usize,
    ) -> Result<T, OpenError> {
        let mut frame = read_body(stream, bytes_max)?;
        let mut tag = [0; TAG_BYTES];
        stream.read_exact(&mut tag).map_err(FrameError::Io)?;
        let mac = frame_mac(&self.key, self.next, &frame);
        if mac.verify_truncated_left(&tag).is_err() {
            return Err(OpenError::Forged(self.next));
        }
        self.next += 1;
        Ok(tandem_wire::decode(&frame.split_off(4))?)
    }
}

/// Reads a frame of at most `bytes_max` bytes, length prefix included in the result. Memory grows
/// with what arrives, not with what is announced.
pub(super) fn read_body(stream: &mut impl Read, bytes_max: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    match stream.read_exact(&mut frame) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
        result => result.map_err(FrameError::Io)?,
    }
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    if length > bytes_max.min(FRAME_BYTES_MAX) {
        return Err(FrameError::TooLarge(length));
    }
    let read = stream.take(length as u64).read_to_end(&mut frame).map_err(FrameError::Io)?;
    if read < length {
        return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(frame)
}

/// 32 bytes from the operating system's generator, in hex.
pub(super) fn nonce() -> Result<String, EngineError> {
    nonce_bytes().map(|bytes| encode_hex(&bytes))
}

/// 32 bytes from the operating system's generator.
pub(super) fn nonce_bytes() -> Result<[u8; 32], EngineError> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| EngineError::Os { what: "/dev/urandom can't be read".into(), source })?;
    Ok(bytes)
}

/// Lower-case hexadecimal.
pub(super) fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Sealer, Opener) {
        let key = ControlKey::from_hex(&"07".repeat(32)).unwrap();
        (key.session(b"t", true).0, key.session(b"t", false).1)
    }

    fn open(opener: &mut Opener, bytes: &[u8]) -> Result<String, OpenError> {
        opener.read(&mut &*bytes, 1024)
    }

    #[test]
    fn frames_open_in_order_and_whatever_bit_flips_is_refused() {
        let (mut sealer, mut opener) = pair();
        for text in ["one", "two"] {
            let frame = sealer.seal(&text).unwrap();
            assert_eq!(open(&mut opener, &frame).unwrap(), text);
        }
        let frame = sealer.seal(&"three").unwrap();
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&mut opener, &flipped).is_err(), "bit {bit} may flip");
        }
        assert_eq!(open(&mut opener, &frame).unwrap(), "three");
    }

    #[test]
    fn a_repeated_dropped_or_reflected_frame_is_refused() {
        let (mut sealer, mut opener) = pair();
        let first = sealer.seal(&"first").unwrap();
        let second = sealer.seal(&"second").unwrap();
        assert!(matches!(open(&mut opener, &second), Err(OpenError::Forged(0))));
        open(&mut opener, &first).unwrap();
        assert!(matches!(open(&mut opener, &first), Err(OpenError::Forged(1))));
        let key = ControlKey::from_hex(&"07".repeat(32)).unwrap();
        let (mut up, _) = key.session(b"t", false);
        assert!(open(&mut pair().1, &up.seal(&"x").unwrap()).is_err(), "own direction only");
        let (mut other, _) = key.session(b"u", true);
        assert!(open(&mut pair().1, &other.seal(&"x").unwrap()).is_err(), "own connection only");
    }

    #[test]
    fn an_announced_size_over_the_bound_is_refused_before_it_is_read() {
        let (mut sealer, mut opener) = pair();
        let frame = sealer.seal(&"x".repeat(2000)).unwrap();
        let error = open(&mut opener, &frame).unwrap_err();
        assert!(matches!(error, OpenError::Frame(FrameError::TooLarge(2002))), "{error}");
    }

    #[test]
    fn a_key_that_is_not_64_digits_is_refused() {
        for bad in ["", "07", &"0g".repeat(32), &"07".repeat(33)] {
            assert!(ControlKey::from_hex(bad).is_err(), "{bad:?}");
        }
    }
}
