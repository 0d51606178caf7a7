//! API keys. They are random and long, so one round of SHA-256 hides them: there is no dictionary
//! to try. Only hashes are in the config.

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::connections::Standing;

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
    /// No right key, and none is needed from this machine, but the request is for another host's name: a web page
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

    /// Decides on one request: by its `Authorization` header, whether it says that it is another
    /// node's canary, the hosts that it names, and where it comes from. A right key comes in whatever
    /// host is named.
    pub(crate) fn admit<'a>(
        &self,
        header: Option<&[u8]>,
        is_marked: bool,
        hosts: impl IntoIterator<Item = &'a [u8]>,
        from_loopback: bool,
    ) -> Result<Standing, Denied> {
        if self.is_own_canary(header) {
            return Ok(Standing::Canary);
        }
        let key = header.and_then(bearer);
        if key.is_some_and(|key| self.knows(key)) {
            let is_canary = self.are_peers && is_marked;
            return Ok(if is_canary { Standing::Canary } else { Standing::Keyed });
        }
        if self.open_to_all {
            return Ok(Standing::Keyless);
        }
        if from_loopback && !self.require_on_loopback {
            let local = hosts.into_iter().all(is_local_name);
            return if local { Ok(Standing::Keyless) } else { Err(Denied::ForeignHost) };
        }
        Err(if key.is_some() { Denied::Wrong } else { Denied::Missing })
    }

    fn knows(&self, key: &[u8]) -> bool {
        let presented = Sha256::digest(key);
        // All keys are compared, whichever fits, so that the time tells nothing.
        let mut found = Choice::from(0);
        for digest in &self.digests {
            found |= digest.as_slice().ct_eq(presented.as_slice());
        }
        bool::from(found)
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

/// Whether a `Host` header or a request's target names an address, `localhost` or a name without a
/// dot: what nobody else can make point here. Whatever is not plainly one of these is none: no other
/// characters than those of host names, nothing behind them but a port.
fn is_local_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split_once(']').is_some_and(|(v6, rest)| {
            v6.parse::<Ipv6Addr>().is_ok() && (rest.is_empty() || is_port(rest))
        });
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.bytes().all(allowed) || !(port.is_empty() || is_port(port)) {
        return false;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_address = name.parse::<Ipv4Addr>().is_ok();
    is_address || !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost")
}

/// `:8080`; the digits may be missing (RFC 3986, section 3.2.3).
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
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

    fn admit(
        keys: &Keys,
        header: &[u8],
        host: &[u8],
        from_loopback: bool,
    ) -> Result<Standing, Denied> {
        let header = (!header.is_empty()).then_some(header);
        keys.admit(header, false, [host], from_loopback)
    }

    #[test]
    fn the_supervisors_key_always_comes_in_and_is_known() {
        let settings = crate::Settings { require_key_on_loopback: true, ..Default::default() };
        let keys = Keys::new(&settings, Some(&hash_api_key("canary")));
        for from_loopback in [true, false] {
            let known = admit(&keys, b"Bearer canary", b"a.example", from_loopback);
            assert_eq!(known, Ok(Standing::Canary));
        }
        for header in [&b"Bearer other"[..], b"Bearer "] {
            let marked = keys.admit(Some(header), true, None, true);
            assert!(marked.is_err(), "its own word is not believed");
        }
        let known = admit(&Keys::new(&settings, None), b"Bearer canary", b"localhost", true);
        assert_eq!(known, Err(Denied::Wrong));
    }

    #[test]
    fn peers_need_their_key_even_from_loopback_and_are_believed_about_canaries() {
        let keys = Keys::of_peers(&hash_api_key("pair")).unwrap();
        for from_loopback in [true, false] {
            let admit = |header, is_marked| {
                keys.admit(header, is_marked, Some(&b"a.example"[..]), from_loopback)
            };
            assert_eq!(admit(Some(b"Bearer pair"), false), Ok(Standing::Keyed));
            assert_eq!(admit(Some(b"Bearer pair"), true), Ok(Standing::Canary));
            assert_eq!(admit(Some(b"Bearer other"), true), Err(Denied::Wrong));
            assert_eq!(admit(None, true), Err(Denied::Missing));
        }
        assert!(Keys::of_peers("pair").is_none());
    }

    #[test]
    fn any_of_the_keys_opens_and_nothing_else_does() {
        let keys = keys(&["one", "two"], false);
        for (header, expected) in [
            ("Bearer one", Ok(Standing::Keyed)),
            ("bearer two ", Ok(Standing::Keyed)),
            ("Bearer three", Err(Denied::Wrong)),
            ("Basic one", Err(Denied::Missing)),
            ("Bearer ", Err(Denied::Missing)),
            ("", Err(Denied::Missing)),
        ] {
            assert_eq!(admit(&keys, header.as_bytes(), b"x", false), expected, "{header}");
        }
    }

    #[test]
    fn loopback_needs_a_key_only_if_told_so() {
        assert_eq!(admit(&keys(&["one"], false), b"", b"x", true), Ok(Standing::Keyless));
        assert_eq!(admit(&keys(&["one"], false), b"Bearer two", b"x", true), Ok(Standing::Keyless));
        assert_eq!(admit(&keys(&["one"], true), b"", b"x", true), Err(Denied::Missing));
        assert_eq!(admit(&keys(&[], false), b"", b"x", false), Err(Denied::Missing));
        let open = crate::Settings { allow_unauthenticated_network: true, ..Default::default() };
        let open = Keys::new(&open, None);
        assert_eq!(admit(&open, b"", b"a.example", false), Ok(Standing::Keyless));
    }

    #[test]
    fn a_right_key_comes_in_whatever_host_is_named() {
        for require_on_loopback in [false, true] {
            let keys = keys(&["one"], require_on_loopback);
            for host in
                ["host.docker.internal:26080", "mac-studio.local", "evil.example", "\u{3002}"]
            {
                let admitted = admit(&keys, b"Bearer one", host.as_bytes(), true);
                assert_eq!(admitted, Ok(Standing::Keyed), "{host}");
            }
        }
    }

    #[test]
    fn other_hosts_names_need_a_key_even_from_loopback() {
        let none = keys(&["one"], false);
        for host in [
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "a.localhost",
            "10.0.0.1:1",
            "[::1]:1",
            "[::1]",
            "mac",
            "127.0.0.1:",
            "my_mac-2:8080",
            "",
        ] {
            assert_eq!(admit(&none, b"", host.as_bytes(), true), Ok(Standing::Keyless), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "[evil.example]",
            "[::1].evil.example",
            "[::1]evil.example:80",
            "[::1",
            "[::1]:80.evil.example",
            "evil\u{3002}example",
            "evil\u{ff0e}example",
            "ev\u{ef}l",
            "evil%2eexample",
            "localhost@evil.example",
            "localhost:80@evil.example",
            "localhost:80.evil.example",
            "localhost..",
            "evil.example.",
            "localhost/evil.example",
            "localhost evil.example",
        ] {
            let denied = Err(Denied::ForeignHost);
            for header in ["", "Bearer wrong"] {
                assert_eq!(
                    admit(&none, header.as_bytes(), host.as_bytes(), true),
                    denied,
                    "{host}"
                );
            }
        }
        let both = none.admit(None, false, [&b"localhost"[..], b"evil.example"], true);
        assert_eq!(both, Err(Denied::ForeignHost), "each name that is given counts");
    }
}
