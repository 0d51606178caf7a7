//! Who a node is, as it tells the other once the code is proven.

use rustls::pki_types::CertificateDer;

/// Longest name of a node: what a DNS label holds, so that mDNS can carry it.
const NAME_BYTES_MAX: usize = 63;

/// Longest certificate, DER: one of ours is under 1 KiB.
pub const CERTIFICATE_BYTES_MAX: usize = 4096;

/// Whether a node may be called so: letters, digits, `-`, `_` and `.`, a letter or digit first.
/// Such a name can be shown on a terminal, be part of a config and a file, and go over mDNS.
pub fn is_node_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// What a node says of itself. None of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Introduction {
    /// Its `node.name`.
    pub(super) name: String,
    /// Port of its `pair.listen`.
    pub(super) link_port: u16,
    /// Its certificate, DER.
    pub(super) certificate: Vec<u8>,
}

impl Introduction {
    /// Length of the name, the name, the port, the certificate to the end.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(self.name.len()).unwrap_or(u8::MAX)];
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(&self.link_port.to_be_bytes());
        bytes.extend_from_slice(&self.certificate);
        bytes
    }

    /// Reads it back; `None` if the name is none, or the certificate is too long or not an X.509
    /// certificate.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (port, certificate) = rest.split_first_chunk::<2>()?;
        let name = std::str::from_utf8(name).ok().filter(|name| is_node_name(name))?;
        if certificate.len() > CERTIFICATE_BYTES_MAX {
            return None;
        }
        rustls::server::ParsedCertificate::try_from(&CertificateDer::from(certificate)).ok()?;
        Some(Self {
            name: name.to_owned(),
            link_port: u16::from_be_bytes(*port),
            certificate: certificate.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn introduction(name: &str, certificate: Vec<u8>) -> Introduction {
        Introduction { name: name.into(), link_port: 52390, certificate }
    }

    fn certificate() -> Vec<u8> {
        rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.der().to_vec()
    }

    #[test]
    fn an_introduction_reads_back_and_what_could_not_be_a_node_does_not() {
        let right = introduction("left", certificate());
        assert_eq!(Introduction::parse(&right.bytes()), Some(right.clone()));
        for (what, bytes) in [
            ("no name", introduction("", certificate()).bytes()),
            ("a name for a terminal", introduction("\x1b[2J", certificate()).bytes()),
            ("a path", introduction("../x", certificate()).bytes()),
            ("a long name", introduction(&"x".repeat(64), certificate()).bytes()),
            ("no certificate", introduction("left", Vec::new()).bytes()),
            ("not a certificate", introduction("left", vec![0x30; 500]).bytes()),
            ("one that is too long", introduction("left", vec![0; 4097]).bytes()),
            ("a cut one", right.bytes()[..100].to_vec()),
            ("one with more behind it", [right.bytes(), vec![0]].concat()),
            ("a length beyond the end", vec![200, b'x']),
            ("nothing", Vec::new()),
        ] {
            assert_eq!(Introduction::parse(&bytes), None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_an_introduction_by_chance(
            bytes in prop::collection::vec(any::<u8>(), 0..512)
        ) {
            prop_assert_eq!(Introduction::parse(&bytes), None);
        }

        #[test]
        fn a_changed_introduction_is_another_or_none(
            index in any::<prop::sample::Index>(), bit in 0..8
        ) {
            let right = introduction("left", certificate());
            let mut bytes = right.bytes();
            let index = index.index(bytes.len());
            bytes[index] ^= 1_u8 << bit;
            prop_assert_ne!(Introduction::parse(&bytes), Some(right));
        }
    }
}
