//! API keys. They are random and long, so one round of SHA-256 hides them: there is no dictionary
//! to try. Only hashes are in the config.

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

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
    /// The owner said that everybody may come in.
    open_to_all: bool,
    /// Of the supervisor's own key.
    canary: Option<[u8; HASH_BYTES]>,
    /// Whether those who come in are other nodes' gateways, which are believed what they say of a
    /// request.
    are_peers: bool,
}

/// Why a request may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No `Authorization: Bearer` header.
    Missing,
    /// The header holds a key that is not in the config.
    Wrong,
    /// No key is needed from this machine, but the request is for another host's name: a web page
    /// that had its name point here, or the clients of a proxy, would come in so.
    ForeignHost,
}

impl Keys {
    /// Takes the hashed keys of validated settings.
    pub(crate) fn new(settings: &crate::Settings, canary_key_hash: Option<&str>) -> Self {
        Self {
            canary: canary_key_hash.and_then(parse_hash),
            digests: settings.api_keys.iter().filter_map(|key| parse_hash(key)).collect(),
            require_on_loopback: settings.require_key_on_loopback,
            open_to_all: settings.allow_unauthenticated_network && settings.api_keys.is_empty(),
            are_peers: false,
        }
    }

    /// Only the key that all nodes of one model share, wherever it comes from; `None` if its hash
    /// is not of the form of [`hash_api_key`].
    pub(crate) fn of_peers(key_hash: &str) -> Option<Self> {
        Some(Self {
            digests: vec![parse_hash(key_hash)?],
            require_on_loopback: true,
            open_to_all: false,
            canary: None,
            are_peers: true,
        })
    }

    /// Decides on one request from its `Authorization` and `Host` headers and where it comes from.
    pub(crate) fn admit<'a>(
        &self,
        header: Option<&[u8]>,
        hosts: impl IntoIterator<Item = &'a [u8]>,
        from_loopback: bool,
    ) -> Result<(), Denied> {
        if self.open_to_all || self.is_own_canary(header) {
            return Ok(());
        }
        if from_loopback && !self.require_on_loopback {
            let local = hosts.into_iter().all(is_local_name);
            return if local { Ok(()) } else { Err(Denied::ForeignHost) };
        }
        let key = header.and_then(bearer).ok_or(Denied::Missing)?;
        let presented = Sha256::digest(key);
        // All keys are compared, whichever fits, so that the time tells nothing.
        let mut found = Choice::from(0);
        for digest in &self.digests {
            found |= digest.as_slice().ct_eq(presented.as_slice());
        }
        if bool::from(found) { Ok(()) } else { Err(Denied::Wrong) }
    }
}

impl Keys {
    /// Whether an admitted request is a supervisor's own: by the key in its `Authorization` header,
    /// or because another node's gateway marked it so.
    pub(crate) fn is_canary(&self, header: Option<&[u8]>, is_marked: bool) -> bool {
        (self.are_peers && is_marked) || self.is_own_canary(header)
    }

    fn is_own_canary(&self, header: Option<&[u8]>) -> bool {
        let (Some(canary), Some(key)) = (self.canary, header.and_then(bearer)) else {
            return false;
        };
        bool::from(canary.as_slice().ct_eq(Sha256::digest(key).as_slice()))
    }
}

/// The key in `Bearer KEY`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(7)?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

/// Whether a `Host` header holds an address, `localhost` or a name without a dot: names that nobody
/// else can make point here.
fn is_local_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => return v6.parse::<Ipv6Addr>().is_ok(),
        None => host.split_once(':').map_or(host, |(name, _)| name).trim_end_matches('.'),
    };
    let is_address = name.parse::<Ipv4Addr>().is_ok();
    is_address || !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(clear: &[&str], require_on_loopback: bool) -> Keys {
        Keys::new(
            &crate::Settings {
                api_keys: clear.iter().map(|key| hash_api_key(key)).collect(),
                require_key_on_loopback: require_on_loopback,
                ..crate::Settings::default()
            },
            None,
        )
    }

    #[test]
    fn a_hashed_key_is_the_known_sha256_and_parses_back() {
        let hash = hash_api_key("abc");
        assert!(hash.starts_with("sha256:ba7816bf8f01cfea414140de5dae2223b00361a3"), "{hash}");
        assert_eq!(parse_hash(&hash).unwrap()[..2], [0xba, 0x78]);
        for bad in ["", "sha256:", "sha256:zz", &hash[..70], &hash[7..]] {
            assert_eq!(parse_hash(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_supervisors_key_always_comes_in_and_is_known() {
        let settings = crate::Settings { require_key_on_loopback: true, ..Default::default() };
        let keys = Keys::new(&settings, Some(&hash_api_key("canary")));
        assert_eq!(keys.admit(Some(b"Bearer canary"), None, true), Ok(()));
        assert!(keys.is_canary(Some(b"Bearer canary"), false));
        assert_eq!(keys.admit(Some(b"Bearer other"), None, true), Err(Denied::Wrong));
        assert!(!keys.is_canary(Some(b"Bearer other"), true) && !keys.is_canary(None, true));
        assert!(!Keys::new(&settings, None).is_canary(Some(b"Bearer "), false));
    }

    #[test]
    fn peers_need_their_key_even_from_loopback_and_are_believed_about_canaries() {
        let keys = Keys::of_peers(&hash_api_key("pair")).unwrap();
        for from_loopback in [true, false] {
            let admit = |header| keys.admit(header, Some(&b"a.example"[..]), from_loopback);
            assert_eq!(admit(Some(b"Bearer pair")), Ok(()));
            assert_eq!(admit(Some(b"Bearer other")), Err(Denied::Wrong));
            assert_eq!(admit(None), Err(Denied::Missing));
        }
        assert!(keys.is_canary(Some(b"Bearer pair"), true));
        assert!(!keys.is_canary(Some(b"Bearer pair"), false));
        assert!(Keys::of_peers("pair").is_none());
    }

    #[test]
    fn any_of_the_keys_opens_and_nothing_else_does() {
        let keys = keys(&["one", "two"], false);
        assert_eq!(keys.admit(Some(b"Bearer one"), None, false), Ok(()));
        assert_eq!(keys.admit(Some(b"bearer two "), None, false), Ok(()));
        assert_eq!(keys.admit(Some(b"Bearer three"), None, false), Err(Denied::Wrong));
        assert_eq!(keys.admit(Some(b"Basic one"), None, false), Err(Denied::Missing));
        assert_eq!(keys.admit(Some(b"Bearer "), None, false), Err(Denied::Missing));
        assert_eq!(keys.admit(None, None, false), Err(Denied::Missing));
    }

    #[test]
    fn loopback_needs_a_key_only_if_told_so() {
        assert_eq!(keys(&["one"], false).admit(None, None, true), Ok(()));
        assert_eq!(keys(&["one"], true).admit(None, None, true), Err(Denied::Missing));
        assert_eq!(keys(&[], false).admit(None, None, false), Err(Denied::Missing));
        let open = crate::Settings { allow_unauthenticated_network: true, ..Default::default() };
        assert_eq!(Keys::new(&open, None).admit(None, Some(&b"a.example"[..]), false), Ok(()));
    }

    #[test]
    fn other_hosts_names_need_a_key_even_from_loopback() {
        let none = keys(&[], false);
        for host in ["localhost", "LOCALHOST:1", "a.localhost", "10.0.0.1:1", "[::1]:1", "mac"] {
            assert_eq!(none.admit(None, Some(host.as_bytes()), true), Ok(()), "{host}");
        }
        for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[evil.example]"]
        {
            let denied = Err(Denied::ForeignHost);
            assert_eq!(none.admit(None, Some(host.as_bytes()), true), denied, "{host}");
        }
        let asked = keys(&["one"], true);
        assert_eq!(asked.admit(Some(b"Bearer one"), Some(&b"a.example"[..]), true), Ok(()));
    }
}
