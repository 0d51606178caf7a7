//! What must be equal on all ranks, as digests with names, so that a difference can be named.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tandem_wire::exit;

use super::seal::encode_hex;
use crate::EngineError;
use crate::settings::RankSetup;

/// Most components of a parity list. Ours are a dozen; a longer list is not from us.
const COMPONENTS_MAX: usize = 64;

/// Digests of all that must be equal on the ranks of a gang.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parity {
    components: Vec<Component>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Component {
    name: String,
    /// SHA-256 in hex.
    digest: String,
    /// Whether it is of the model's files; else it is of the config or the executable.
    of_model: bool,
}

impl Parity {
    /// Digests the settings that matter, this executable's version, and what the caller knows of
    /// the model: `(name, content)` for each thing that must be equal.
    pub fn new(setup: &RankSetup, model: &[(String, Vec<u8>)]) -> Self {
        let settings = &setup.settings;
        let weights: Vec<_> = setup.ranks.iter().map(|place| place.weight).collect();
        let addresses: Vec<_> = setup.ranks.iter().map(|place| place.address).collect();
        let config = [
            ("version of tandem", env!("CARGO_PKG_VERSION").to_owned()),
            ("weight of [[rank]]", format!("{weights:?}")),
            ("address of [[rank]]", format!("{addresses:?}")),
            ("engine.backend", settings.backend.name().to_owned()),
            ("engine.ring_port_base", settings.ring_port_base.to_string()),
            ("engine.context_tokens", settings.context_tokens.to_string()),
            ("engine.max_active", settings.max_active.to_string()),
            ("engine.cpu_expand", settings.cpu_expand.to_string()),
        ];
        let component = |name: &str, content: &[u8], of_model| Component {
            name: name.to_owned(),
            digest: encode_hex(&Sha256::digest(content)),
            of_model,
        };
        let config = config.iter().map(|(name, value)| component(name, value.as_bytes(), false));
        let model = model.iter().map(|(name, content)| component(name, content, true));
        Self { components: config.chain(model).collect() }
    }

    /// An error naming all that differs between this rank and another, if anything does.
    pub(super) fn compare(&self, other: &Self, other_rank: u32) -> Result<(), EngineError> {
        if other.components.len() > COMPONENTS_MAX {
            return Err(EngineError::Usage(format!(
                "rank {other_rank} sent {} parity components",
                other.components.len()
            )));
        }
        let missing = |list: &Self, c: &Component| !list.components.contains(c);
        let mut differing: Vec<&Component> = Vec::new();
        let ours = self.components.iter().filter(|c| missing(other, c));
        for component in ours.chain(other.components.iter().filter(|c| missing(self, c))) {
            if differing.iter().all(|d| d.name != component.name) {
                differing.push(component);
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = differing.iter().map(|c| c.name.as_str()).collect();
        let message = format!(
            "rank {other_rank} differs from this rank in: {}; make them equal on both nodes",
            names.join(", ")
        );
        if differing.iter().all(|c| c.of_model) {
            Err(EngineError::Model(message))
        } else {
            Err(EngineError::Usage(message))
        }
    }
}

/// The error for a refusal told by rank 0, of the same kind as rank 0's own.
pub(super) fn refusal(code: i32, reason: String) -> EngineError {
    let message = format!("rank 0 refused this rank: {reason}");
    match code {
        exit::MODEL => EngineError::Model(message),
        exit::GROUP => EngineError::Group(message),
        _ => EngineError::Usage(message),
    }
}
