//! The cryptography of pairing: SPAKE2, then a tag on every frame.
//!
//! The code is the password of SPAKE2 (Abdalla and Pointcheval, "Simple Password-Based Encrypted Key
//! Exchange Protocols", 2005), as crate `spake2` has it, over Ed25519. Both sides so have one strong
//! key if, and only if, they have the same code; its messages are random points, whatever the code. From the key and the hash of both hellos, HKDF-SHA256 (RFC 5869)
//! makes one key for each direction, and every later frame ends with an HMAC-SHA256 (RFC 2104)
//! over the hash of everything before it, its kind and its body. So a frame can't be altered,
//! repeated, moved, sent back or taken into another exchange.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::{
    code::Code,
    frame::{Frame, Kind},
};

/// What a hello begins with.
const PROTOCOL: &[u8] = b"tandem-pair";

/// Version of this protocol; a change of anything here is a new one.
const VERSION: u8 = 1;

/// Bytes of a tag.
const TAG_BYTES: usize = 32;

/// Which side of an exchange this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Side A: it connects, and proves the code first.
    Joiner,
    /// Side B: it shows the code and waits.
    Offerer,
}

impl Role {
    /// Name of the role in SPAKE2 and HKDF; it holds the version, so that two versions never
    /// agree on a key.
    const fn identity(self) -> &'static [u8] {
        match self {
            Self::Joiner => b"tandem-pair 1 joiner",
            Self::Offerer => b"tandem-pair 1 offerer",
        }
    }
}

/// Why a hello can't be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HelloError {
    /// Another version of this protocol.
    Version,
    /// Not this protocol, or not a point of the group.
    Malformed,
}

/// A side that has its hello but not yet the other's.
pub(super) struct Start {
    role: Role,
    exchange: Spake2<Ed25519Group>,
    hello: Frame,
}

impl Start {
    /// Fresh for each connection: what one exchange showed is worth nothing in the next.
    pub(super) fn new(role: Role, code: &Code) -> Self {
        let password = Password::new(code.password());
        let joiner = Identity::new(Role::Joiner.identity());
        let offerer = Identity::new(Role::Offerer.identity());
        let (exchange, message) = match role {
            Role::Joiner => Spake2::start_a(&password, &joiner, &offerer),
            Role::Offerer => Spake2::start_b(&password, &joiner, &offerer),
        };
        let body = [PROTOCOL, &[VERSION], message.as_slice()].concat();
        Self { role, exchange, hello: Frame { kind: Kind::Hello, body } }
    }

    pub(super) fn hello(&self) -> &Frame {
        &self.hello
    }

    /// The session that both hellos make. It says nothing of the other's code: its first tag does.
    pub(super) fn finish(self, other: &Frame) -> Result<Session, HelloError> {
        let rest = other.body.strip_prefix(PROTOCOL).ok_or(HelloError::Malformed)?;
        let (version, message) = rest.split_first().ok_or(HelloError::Malformed)?;
        if *version != VERSION {
            return Err(HelloError::Version);
        }
        let key = self.exchange.finish(message).map_err(|_| HelloError::Malformed)?;
        let (joiner, offerer) = match self.role {
            Role::Joiner => (&self.hello, other),
            Role::Offerer => (other, &self.hello),
        };
        let mut transcript = Sha256::new();
        transcript.update(joiner.bytes());
        transcript.update(offerer.bytes());
        let keys = Hkdf::<Sha256>::new(Some(transcript.clone().finalize().as_slice()), &key);
        let of = |role: Role| {
            let mut key = [0; TAG_BYTES];
            // 32 bytes are far from the most that HKDF gives (255 times 32).
            keys.expand(role.identity(), &mut key).map_err(|_| HelloError::Malformed)?;
            Ok(key)
        };
        let (own, others) = match self.role {
            Role::Joiner => (of(Role::Joiner)?, of(Role::Offerer)?),
            Role::Offerer => (of(Role::Offerer)?, of(Role::Joiner)?),
        };
        Ok(Session { transcript, own, others })
    }
}

/// An exchange after both hellos.
pub(super) struct Session {
    /// Of all frames so far, as both sides saw them.
    transcript: Sha256,
    own: [u8; TAG_BYTES],
    others: [u8; TAG_BYTES],
}

impl Session {
    /// A frame of this side, with its tag.
    pub(super) fn seal(&mut self, kind: Kind, body: &[u8]) -> Frame {
        let tag = self.tag(&self.own, kind, body).map(|mac| mac.finalize().into_bytes());
        let mut sealed = body.to_vec();
        sealed.extend_from_slice(tag.as_deref().unwrap_or_default());
        let frame = Frame { kind, body: sealed };
        self.transcript.update(frame.bytes());
        frame
    }

    /// The body of a frame of the other side; `None` if its tag is wrong, which for the first
    /// one means that the code was. Compared in constant time.
    pub(super) fn open(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        let length = frame.body.len().checked_sub(TAG_BYTES)?;
        let (body, tag) = frame.body.split_at_checked(length)?;
        self.tag(&self.others, frame.kind, body)?.verify_slice(tag).ok()?;
        self.transcript.update(frame.bytes());
        Some(body.to_vec())
    }

    fn tag(&self, key: &[u8], kind: Kind, body: &[u8]) -> Option<Hmac<Sha256>> {
        // Any length of key does for HMAC, so there is always one.
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(&self.transcript.clone().finalize());
        mac.update(&[kind.number()]);
        mac.update(body);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Code {
        text.parse().unwrap()
    }

    /// Sessions of a joiner and an offerer that heard each other's hello.
    fn sessions(joiners: &str, offerers: &str) -> (Session, Session) {
        let joiner = Start::new(Role::Joiner, &code(joiners));
        let offerer = Start::new(Role::Offerer, &code(offerers));
        let (a, b) = (joiner.hello().clone(), offerer.hello().clone());
        (joiner.finish(&b).unwrap(), offerer.finish(&a).unwrap())
    }

    #[test]
    fn the_same_code_opens_what_the_other_sealed_and_another_does_not() {
        let (mut joiner, mut offerer) = sessions("7K2M-9QXD", "7K2M-9QXD");
        let sealed = joiner.seal(Kind::Introduction, b"me");
        assert_eq!(offerer.open(&sealed).as_deref(), Some(&b"me"[..]));
        let answer = offerer.seal(Kind::Introduction, b"and me");
        assert_eq!(joiner.open(&answer).as_deref(), Some(&b"and me"[..]));

        let (mut joiner, mut offerer) = sessions("7K2M-9QXD", "7K2M-9QXE");
        let sealed = joiner.seal(Kind::Introduction, b"me");
        assert_eq!(offerer.open(&sealed), None);
    }

    #[test]
    fn no_frame_can_be_altered_repeated_moved_or_sent_back() {
        let (mut joiner, mut offerer) = sessions("7K2M-9QXD", "7K2M-9QXD");
        let sealed = joiner.seal(Kind::Introduction, b"me");
        assert_eq!(joiner.open(&sealed), None, "sent back");
        for index in 0..sealed.body.len() {
            let mut altered = sealed.clone();
            altered.body[index] ^= 1;
            assert_eq!(offerer.open(&altered), None, "byte {index}");
        }
        assert_eq!(offerer.open(&Frame { kind: Kind::Verdict, ..sealed.clone() }), None, "moved");
        assert_eq!(offerer.open(&Frame { kind: Kind::Introduction, body: vec![] }), None);
        let later = joiner.seal(Kind::Verdict, b"yes");
        assert_eq!(offerer.open(&later), None, "one was left out");
        assert!(offerer.open(&sealed).is_some());
        assert_eq!(offerer.open(&sealed), None, "repeated");
        assert!(offerer.open(&later).is_some());
    }

    #[test]
    fn two_exchanges_with_one_code_share_nothing() {
        let (mut joiner, _) = sessions("7K2M-9QXD", "7K2M-9QXD");
        let sealed = joiner.seal(Kind::Introduction, b"me");
        let (_, mut offerer) = sessions("7K2M-9QXD", "7K2M-9QXD");
        assert_eq!(offerer.open(&sealed), None);
    }

    #[test]
    fn a_hello_that_is_none_is_refused_and_a_later_version_is_named() {
        let own = |role| Start::new(role, &code("7K2M-9QXD"));
        let joiner = own(Role::Joiner).hello().clone();
        let with = |change: fn(&mut Vec<u8>)| {
            let mut frame = joiner.clone();
            change(&mut frame.body);
            frame
        };
        for (frame, error) in [
            (with(|body| body[PROTOCOL.len()] = 2), HelloError::Version),
            (with(|body| body[0] = b'T'), HelloError::Malformed),
            (with(|body| body[PROTOCOL.len() + 1] = b'B'), HelloError::Malformed),
            (with(|body| body.truncate(PROTOCOL.len())), HelloError::Malformed),
            (with(|body| body.truncate(30)), HelloError::Malformed),
            (with(|body| body.push(0)), HelloError::Malformed),
            (with(Vec::clear), HelloError::Malformed),
            // y = 2 is not on the curve.
            (
                with(|body| {
                    body[13..].copy_from_slice(&{
                        let mut y = [0; 32];
                        y[0] = 2;
                        y
                    })
                }),
                HelloError::Malformed,
            ),
        ] {
            assert_eq!(own(Role::Offerer).finish(&frame).err(), Some(error), "{frame:?}");
        }
        assert!(own(Role::Joiner).finish(&joiner).is_err(), "one's own hello sent back");
        assert!(own(Role::Offerer).finish(&joiner).is_ok());
    }
}
