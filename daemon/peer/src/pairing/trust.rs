//! Whether this node pins another, once the code is proven.

use std::{net::SocketAddr, path::PathBuf};

use super::introduction::Introduction;
use crate::identity::{Fingerprint, IdentityError, Pins};

/// This node, as it pairs.
#[derive(Clone, Debug)]
pub struct Node {
    /// Folder of its identity and pins.
    pub folder: PathBuf,
    /// Its `node.name`; [`super::is_node_name`] holds.
    pub name: String,
    /// Its certificate, DER; at most [`super::CERTIFICATE_BYTES_MAX`].
    pub certificate: Vec<u8>,
    /// Port of its `pair.listen`.
    pub link_port: u16,
    /// Names of its `[[peer]]` sections: with any, nothing else is pinned.
    pub expected: Vec<String>,
    /// Whether a name that has another key already gets the new one.
    pub replace: bool,
}

/// A node that is trusted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paired {
    /// Its `node.name`.
    pub name: String,
    /// Of its certificate.
    pub fingerprint: Fingerprint,
    /// Where its link is reached: the address it was met at, and the port of its `pair.listen`.
    pub link: SocketAddr,
    /// Whether a `[[peer]]` section names it.
    pub is_configured: bool,
}

/// Why a node that knows the code is not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The other has the name of this one.
    #[error("both have the same node.name; give each machine its own in its config")]
    SameName,
    /// There are `[[peer]]` sections, and none has this name.
    #[error("no [[peer]] section of the config has its node.name; correct one or add one")]
    Unexpected,
    /// Another key is pinned for the name.
    #[error(
        "another key is pinned for its node.name; if the machine was set up anew, use --replace"
    )]
    OtherKey,
    /// The key is pinned for another name.
    #[error(
        "its key is pinned for another node.name; if it was renamed, `tandem pair forget` the old name"
    )]
    OtherName,
    /// What it said of itself makes no sense.
    #[error("its name or certificate is not valid; both should run the same version of tandem")]
    Malformed,
    /// It could not be saved.
    #[error("the pin could not be read or saved; the log on that side says why")]
    NotKept,
}

impl Refusal {
    const ALL: [Self; 6] = [
        Self::SameName,
        Self::Unexpected,
        Self::OtherKey,
        Self::OtherName,
        Self::Malformed,
        Self::NotKept,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::SameName => 1,
            Self::Unexpected => 2,
            Self::OtherKey => 3,
            Self::OtherName => 4,
            Self::Malformed => 5,
            Self::NotKept => 6,
        }
    }
}

/// The body of a verdict: accepted, or why not.
pub(super) fn verdict(of: Result<(), Refusal>) -> [u8; 1] {
    [of.map_or_else(Refusal::number, |()| 0)]
}

/// Reads a verdict; an unknown number is a refusal that this version has no word for.
pub(super) fn read_verdict(body: &[u8]) -> Result<(), Refusal> {
    match body {
        [0] => Ok(()),
        [number] => Err(Refusal::ALL
            .into_iter()
            .find(|refusal| refusal.number() == *number)
            .unwrap_or(Refusal::Malformed)),
        _ => Err(Refusal::Malformed),
    }
}

impl Node {
    pub(super) fn introduction(&self) -> Vec<u8> {
        let Self { name, link_port, certificate, .. } = self.clone();
        Introduction { name, link_port, certificate }.bytes()
    }

    /// Whether the other may be pinned; nothing is changed.
    pub(super) fn judge(&self, other: &Introduction) -> Result<(), Refusal> {
        let pins = Pins::load(&self.folder).map_err(|error| not_kept(&error))?;
        let fingerprint = Fingerprint::of(&other.certificate);
        // Names that differ in case only would be one in mDNS and in people's eyes.
        if other.name.eq_ignore_ascii_case(&self.name) {
            return Err(Refusal::SameName);
        }
        if !self.expected.is_empty() && !self.expected.contains(&other.name) {
            return Err(Refusal::Unexpected);
        }
        if pins.node(fingerprint).is_some_and(|name| name != other.name) {
            return Err(Refusal::OtherName);
        }
        match pins.get(&other.name) {
            Some(pinned) if pinned != fingerprint && !self.replace => Err(Refusal::OtherKey),
            _ => Ok(()),
        }
    }

    /// Pins the other, on disk when it returns; `at` is where it was met.
    pub(super) fn pin(&self, other: &Introduction, at: SocketAddr) -> Result<Paired, Refusal> {
        let fingerprint = Fingerprint::of(&other.certificate);
        Pins::pin(&self.folder, &other.name, fingerprint).map_err(|error| not_kept(&error))?;
        tracing::info!(peer = other.name, %fingerprint, "paired");
        // With the scope, which a link-local IPv6 address needs.
        let mut link = match at.ip().to_canonical() {
            ip if ip.is_ipv4() => SocketAddr::new(ip, 0),
            _ => at,
        };
        link.set_port(other.link_port);
        Ok(Paired {
            name: other.name.clone(),
            fingerprint,
            link,
            is_configured: self.expected.contains(&other.name),
        })
    }
}

fn not_kept(error: &IdentityError) -> Refusal {
    let source = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
    tracing::error!("{error}{source}");
    Refusal::NotKept
}
