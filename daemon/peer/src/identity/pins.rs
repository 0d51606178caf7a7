//! Which node has which certificate.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{Fingerprint, IdentityError, checked_name, files::Folder};

const PINS_FILE: &str = "peers.json";

/// Raised when the file changes its meaning.
const PINS_VERSION: u32 = 1;

/// Most pins: a gang has at most four nodes, and machines are replaced.
pub const PINS_MAX: usize = 64;

/// The pinned nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(BTreeMap<String, Fingerprint>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    v: u32,
    peers: BTreeMap<String, Fingerprint>,
}

impl Pins {
    /// Reads them; none where there is no file yet.
    ///
    /// # Errors
    /// See [`IdentityError`]: an unsafe or damaged file pins nobody.
    pub fn load(folder: &Path) -> Result<Self, IdentityError> {
        match Folder::find(folder)? {
            Some(folder) => Self::read(&folder),
            None => Ok(Self::default()),
        }
    }

    /// The certificate of a node.
    pub fn get(&self, node: &str) -> Option<Fingerprint> {
        self.0.get(node).copied()
    }

    /// The node that has a certificate.
    pub fn node(&self, fingerprint: Fingerprint) -> Option<&str> {
        self.0.iter().find(|(_, pin)| **pin == fingerprint).map(|(node, _)| node.as_str())
    }

    /// All nodes, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Fingerprint)> {
        self.0.iter().map(|(node, fingerprint)| (node.as_str(), *fingerprint))
    }

    /// Pins a node's certificate, in place of the one that was pinned for it. On disk when it
    /// returns.
    ///
    /// # Errors
    /// See [`IdentityError`]; nothing is changed then. One certificate can't be two nodes.
    pub fn pin(folder: &Path, node: &str, fingerprint: Fingerprint) -> Result<(), IdentityError> {
        checked_name(node)?;
        let folder = Folder::make(folder)?;
        let _lock = folder.lock()?;
        let mut pins = Self::read(&folder)?;
        match pins.node(fingerprint) {
            Some(found) if found == node => return Ok(()),
            Some(found) => {
                return Err(IdentityError::Taken { fingerprint, node: found.to_owned() });
            }
            None => {}
        }
        pins.0.insert(node.to_owned(), fingerprint);
        if pins.0.len() > PINS_MAX {
            return Err(IdentityError::Full);
        }
        pins.write(&folder)
    }

    /// Forgets a node, and says whether it was pinned. On disk when it returns.
    ///
    /// # Errors
    /// See [`IdentityError`]; nothing is changed then.
    pub fn forget(folder: &Path, node: &str) -> Result<bool, IdentityError> {
        let Some(folder) = Folder::find(folder)? else { return Ok(false) };
        let _lock = folder.lock()?;
        let mut pins = Self::read(&folder)?;
        if pins.0.remove(node).is_none() {
            return Ok(false);
        }
        pins.write(&folder)?;
        Ok(true)
    }

    fn read(folder: &Folder) -> Result<Self, IdentityError> {
        let Some(content) = folder.read(PINS_FILE)? else { return Ok(Self::default()) };
        Self::parse(&content).map_err(|problem| IdentityError::Damaged {
            path: folder.path().join(PINS_FILE),
            problem,
            remedy: "put it back from a backup, or remove it and pair the nodes again",
        })
    }

    fn parse(content: &[u8]) -> Result<Self, String> {
        let content: Content =
            serde_json::from_slice(content).map_err(|error| error.to_string())?;
        if content.v != PINS_VERSION {
            return Err(format!("version {} is not {PINS_VERSION}", content.v));
        }
        if content.peers.len() > PINS_MAX {
            return Err(format!("over {PINS_MAX} nodes"));
        }
        let pins = Self(content.peers);
        for (node, fingerprint) in &pins.0 {
            checked_name(node).map_err(|error| error.to_string())?;
            if pins.node(*fingerprint) != Some(node.as_str()) {
                return Err(format!("{node} has another node's certificate"));
            }
        }
        Ok(pins)
    }

    fn write(self, folder: &Folder) -> Result<(), IdentityError> {
        let content = Content { v: PINS_VERSION, peers: self.0 };
        let text = serde_json::to_vec_pretty(&content).map_err(|error| IdentityError::Io {
            doing: "write",
            path: folder.path().join(PINS_FILE),
            source: error.into(),
        })?;
        folder.write(PINS_FILE, &text)
    }
}
