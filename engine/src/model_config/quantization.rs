//! MLX affine quantisation as mlx-lm writes it into `config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ConfigError;
use super::keys::Keys;

/// How one matrix is quantised: along its last axis every `group_size` values share a scale and a
/// bias, `value = scale · q + bias` with `q` of `bits` bits, packed into little-endian `u32` words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// 32, 64 or 128.
    pub group_size: usize,
    /// 2, 3, 4, 5, 6 or 8.
    pub bits: usize,
}

impl Group {
    /// The group, if MLX's affine kernels have it.
    pub fn new(group_size: u64, bits: u64) -> Option<Self> {
        let known = [32, 64, 128].contains(&group_size) && [2, 3, 4, 5, 6, 8].contains(&bits);
        known.then_some(Self { group_size: group_size as usize, bits: bits as usize })
    }

    /// `u32` words that `values` values take. MLX packs without gaps, so 3-bit values come as 32 in
    /// three words, 5-bit ones as 32 in five, 6-bit ones as 16 in three.
    pub fn words(self, values: usize) -> usize {
        values * self.bits / 32
    }
}

/// The whole model's quantisation: a default and what differs by module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    /// For every module without an override.
    pub default: Group,
    /// By module name; `None` is "not quantised".
    pub overrides: BTreeMap<String, Option<Group>>,
}

impl Quantization {
    /// How module `name` is quantised, if it is.
    pub fn group(&self, name: &str) -> Option<Group> {
        self.overrides.get(name).copied().unwrap_or(Some(self.default))
    }

    pub(super) fn parse(keys: &Keys<'_>) -> Result<Option<Self>, ConfigError> {
        let name = match (keys.get("quantization"), keys.get("quantization_config")) {
            (Some(_), _) => "quantization",
            (None, Some(_)) => "quantization_config",
            (None, None) => return Ok(None),
        };
        let Some(map) = keys.get(name).and_then(Value::as_object) else {
            return Err(ConfigError::key(name, "is not an object"));
        };
        if map.is_empty() {
            return Ok(None);
        }
        if let Some(method) = map.get("quant_method") {
            let reason = format!(
                "{method} is not supported, MLX affine quantisation is; convert the model with \
                 mlx_lm.convert"
            );
            return Err(ConfigError::key(&format!("{name}.quant_method"), reason));
        }
        let default = group(name, map, None)?;
        let mut overrides = BTreeMap::new();
        // What else is there are scalars about how the file was made; they change no numbers, and
        // the shapes of all tensors are checked against the result.
        for (module, value) in map {
            let entry = match value {
                Value::Object(map) => Some(group(&format!("{name}.{module}"), map, Some(default))?),
                Value::Bool(true) => Some(default),
                Value::Bool(false) => None,
                _ => continue,
            };
            overrides.insert(module.clone(), entry);
        }
        Ok(Some(Self { default, overrides }))
    }
}

fn group(
    name: &str,
    map: &Map<String, Value>,
    default: Option<Group>,
) -> Result<Group, ConfigError> {
    match map.get("mode").map(|m| m.as_str().unwrap_or("")) {
        None | Some("affine") => {}
        Some(other) => {
            let reason = format!("{other:?} is not supported, only \"affine\" is");
            return Err(ConfigError::key(&format!("{name}.mode"), reason));
        }
    }
    let keys = Keys(map);
    // mlx-lm fills a missing size of a module with the default's.
    let size = |key: &str, otherwise: Option<usize>| match (keys.get(key), otherwise) {
        (None, Some(size)) => Ok(size),
        _ => keys
            .size(key, 1 << 10)
            .map_err(|_| ConfigError::key(&format!("{name}.{key}"), "is not a size")),
    };
    let group_size = size("group_size", default.map(|d| d.group_size))?;
    let bits = size("bits", default.map(|d| d.bits))?;
    Group::new(group_size as u64, bits as u64).ok_or_else(|| {
        let reason = format!(
            "{bits} bits in groups of {group_size} are not supported; bits 2, 3, 4, 5, 6, 8 and \
             groups 32, 64, 128 are"
        );
        ConfigError::key(name, reason)
    })
}
