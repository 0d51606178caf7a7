//! Who this node is, and who the others are: one key a node, and the other nodes' keys pinned.
//!
//! ```text
//!   state_dir/peer/          0700   of the supervisor's user
//!     key.pem                0600   this node's private key and its certificate
//!     peers.json             0600   which node has which certificate
//! ```
//!
//! There is no authority and no date in it: a node is who it is by the certificate that was pinned
//! when the two were paired, until an operator forgets it. Nothing here is trusted that another user
//! could have read or written.

mod files;
mod fingerprint;
mod pins;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519, date_time_ymd};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use files::Folder;
pub use fingerprint::{Fingerprint, NotAFingerprint};
pub use pins::{PINS_MAX, Pins};

/// File of the key and the certificate. One file, so that no crash leaves one without the other.
const KEY_FILE: &str = "key.pem";

/// Longest name of a node, in bytes: what fits the common name of a certificate (RFC 5280, upper
/// bound `ub-common-name`).
pub const NODE_NAME_BYTES_MAX: usize = 64;

/// Why an identity or the pins can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system refused.
    #[error("can't {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another user could have read or changed it.
    #[error("{path} {problem}; {remedy}")]
    Unsafe {
        /// What.
        path: PathBuf,
        /// How.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It is not what was once written there.
    #[error("{path} is damaged ({problem}); {remedy}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No key or certificate could be made.
    #[error("can't make a key")]
    Make(#[source] rcgen::Error),
    /// No node can have this name.
    #[error("{0:?} can't be a node's name: 1 to {NODE_NAME_BYTES_MAX} bytes, none of control")]
    Name(String),
    /// Another node has this certificate.
    #[error("{fingerprint} is already pinned for {node}; `tandem pair forget {node}` first")]
    Taken {
        /// The certificate.
        fingerprint: Fingerprint,
        /// The node that has it.
        node: String,
    },
    /// More pins than any gang has nodes.
    #[error("{PINS_MAX} nodes are pinned already; `tandem pair forget` those that are gone")]
    Full,
}

/// This node's private key, and the certificate that the others pin.
///
/// An Ed25519 key (RFC 8032): its signatures need no fresh randomness. The certificate is signed by
/// itself and valid from 1970 to 4096, because trust is the pin and not a date: these machines boot
/// without a clock that can be relied on.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    certificate: CertificateDer<'static>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Reads this node's identity, or makes one where there is none. Two processes that make one at
    /// the same time get the same. `node` only names the certificate, for people who look at it: a
    /// node that is renamed keeps its key.
    ///
    /// # Errors
    /// See [`IdentityError`]. A damaged or unsafe key is never replaced: the other nodes would refuse
    /// the new one, and an operator should know.
    pub fn load_or_make(folder: &Path, node: &str) -> Result<Self, IdentityError> {
        checked_name(node)?;
        let folder = Folder::make(folder)?;
        let _lock = folder.lock()?;
        match folder.read(KEY_FILE)? {
            Some(pem) => Self::parse(&pem).map_err(|problem| IdentityError::Damaged {
                path: folder.path().join(KEY_FILE),
                problem,
                remedy: "put it back from a backup, or remove it and pair the nodes again",
            }),
            None => {
                let pem = make(node).map_err(IdentityError::Make)?;
                folder.write(KEY_FILE, pem.as_bytes())?;
                Self::parse(pem.as_bytes()).map_err(|problem| IdentityError::Damaged {
                    path: folder.path().join(KEY_FILE),
                    problem,
                    remedy: "remove it and start again",
                })
            }
        }
    }

    fn parse(pem: &[u8]) -> Result<Self, String> {
        let text = |error: &dyn fmt::Display| error.to_string();
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| text(&error))?;
        let certificate = CertificateDer::from_pem_slice(pem).map_err(|error| text(&error))?;
        // Fails if the certificate is of another key.
        let certified = CertifiedKey::from_der(vec![certificate.clone()], key.into(), &provider())
            .map_err(|error| text(&error))?;
        let fingerprint = Fingerprint::of(&certificate);
        Ok(Self { certified: Arc::new(certified), certificate, fingerprint })
    }

    /// What the other nodes pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The certificate, as X.509 in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Key and certificate, as the TLS library takes them.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The cryptography of all connections between nodes.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// A key and its certificate, as PEM.
fn make(node: &str) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(4096, 1, 1);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Tandem");
    params.distinguished_name.push(DnType::CommonName, node);
    let certificate = params.self_signed(&key)?;
    Ok(key.serialize_pem() + &certificate.pem())
}

/// Refuses what can't be shown on one line.
fn checked_name(node: &str) -> Result<(), IdentityError> {
    let is_sized = (1..=NODE_NAME_BYTES_MAX).contains(&node.len());
    match is_sized && !node.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(IdentityError::Name(node.chars().take(NODE_NAME_BYTES_MAX).collect())),
    }
}
