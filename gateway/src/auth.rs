//! API keys. They are random and long, so one round of SHA-256 hides them: there is no dictionary
//! to try. Only hashes are in the config.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

const PREFIX: &str = "sha256:";
const HASH_BYTES: usize = 32;

/// The form of a key that goes into `gateway.api_keys`: `sha256:` and 64 lower-case hex digits.
/// The key itself must be random (32 bytes or so), since the hash is fast.
pub fn hash_api_key(key: &str) -> String {
    let mut text = PREFIX.to_owned();
    for byte in Sha256::digest(key.as_bytes()) {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The digest inside a hashed key, or `None` if it is not of the form of [`hash_api_key`].
pub(crate) fn parse_hash(text: &str) -> Option<[u8; HASH_BYTES]> {
    let hex = text.strip_prefix(PREFIX)?;
    if hex.len() != 2 * HASH_BYTES || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; HASH_BYTES];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

/// Who may come in.
#[derive(Clone)]
pub(crate) struct Keys {
    digests: Vec<[u8; HASH_BYTES]>,
    require_on_loopback: bool,
}

/// Why a request may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No `Authorization: Bearer` header.
    Missing,
    /// The header holds a key that is not in the config.
    Wrong,
}

impl Keys {
    /// Takes the hashed keys of validated settings.
    pub(crate) fn new(settings: &crate::Settings) -> Self {
        Self {
            digests: settings
                .api_keys
                .iter()
                .filter_map(|key| parse_hash(key))
                .collect(),
            require_on_loopback: settings.require_key_on_loopback,
        }
    }

    /// Decides on one request from its `Authorization` header and where it comes from. Without
    /// any key in the config all come in: [`crate::Settings::validate`] saw to it that this is
    /// meant.
    pub(crate) fn admit(&self, header: Option<&[u8]>, from_loopback: bool) -> Result<(), Denied> {
        if self.digests.is_empty() || (from_loopback && !self.require_on_loopback) {
            return Ok(());
        }
        let key = header.and_then(bearer).ok_or(Denied::Missing)?;
        let presented = Sha256::digest(key);
        // All keys are compared, whichever fits, so that the time tells nothing.
        let mut found = Choice::from(0);
        for digest in &self.digests {
            found |= digest.as_slice().ct_eq(presented.as_slice());
        }
        if bool::from(found) {
            Ok(())
        } else {
            Err(Denied::Wrong)
        }
    }
}

/// The key in `Bearer KEY`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(7)?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(clear: &[&str], require_on_loopback: bool) -> Keys {
        Keys::new(&crate::Settings {
            api_keys: clear.iter().map(|key| hash_api_key(key)).collect(),
            require_key_on_loopback: require_on_loopback,
            ..crate::Settings::default()
        })
    }

    #[test]
    fn a_hashed_key_is_the_known_sha256_and_parses_back() {
        let hash = hash_api_key("abc");
        assert!(
            hash.starts_with("sha256:ba7816bf8f01cfea414140de5dae2223b00361a3"),
            "{hash}"
        );
        assert_eq!(parse_hash(&hash).unwrap()[..2], [0xba, 0x78]);
        for bad in ["", "sha256:", "sha256:zz", &hash[..70], &hash[7..]] {
            assert_eq!(parse_hash(bad), None, "{bad}");
        }
    }

    #[test]
    fn any_of_the_keys_opens_and_nothing_else_does() {
        let keys = keys(&["one", "two"], false);
        assert_eq!(keys.admit(Some(b"Bearer one"), false), Ok(()));
        assert_eq!(keys.admit(Some(b"bearer two "), false), Ok(()));
        assert_eq!(keys.admit(Some(b"Bearer three"), false), Err(Denied::Wrong));
        assert_eq!(keys.admit(Some(b"Basic one"), false), Err(Denied::Missing));
        assert_eq!(keys.admit(Some(b"Bearer "), false), Err(Denied::Missing));
        assert_eq!(keys.admit(None, false), Err(Denied::Missing));
    }

    #[test]
    fn loopback_needs_a_key_only_if_told_so() {
        assert_eq!(keys(&["one"], false).admit(None, true), Ok(()));
        assert_eq!(keys(&["one"], true).admit(None, true), Err(Denied::Missing));
        assert_eq!(keys(&[], false).admit(None, false), Ok(()));
    }
}
