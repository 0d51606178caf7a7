//! Reading typed values out of a JSON object.

use serde_json::{Map, Value};

use super::ConfigError;

/// Typed, range-checked access to an object. A key that is `null` counts as absent, as in Python.
pub(super) struct Keys<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Keys<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    pub(super) fn require(&self, key: &str) -> Result<&'a Value, ConfigError> {
        self.get(key).ok_or_else(|| ConfigError::key(key, "is missing"))
    }

    pub(super) fn text(&self, key: &str) -> Result<&'a str, ConfigError> {
        let value = self.require(key)?;
        value.as_str().ok_or_else(|| ConfigError::key(key, format!("{value} is not a text")))
    }

    /// A whole number in `1..=max`.
    pub(super) fn size(&self, key: &str, max: u64) -> Result<usize, ConfigError> {
        let value = self.require(key)?;
        match value.as_u64() {
            Some(n @ 1..) if n <= max => Ok(n as usize),
            _ => Err(ConfigError::key(key, format!("{value} is not a whole number in 1..={max}"))),
        }
    }

    pub(super) fn size_or(
        &self,
        key: &str,
        default: usize,
        max: u64,
    ) -> Result<usize, ConfigError> {
        if self.get(key).is_none() { Ok(default) } else { self.size(key, max) }
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        value.as_bool().ok_or_else(|| ConfigError::key(key, format!("{value} is not a boolean")))
    }

    /// A finite number above zero that fits `f32`.
    pub(super) fn positive(&self, key: &str) -> Result<f32, ConfigError> {
        let value = self.require(key)?;
        match value.as_f64().map(|n| n as f32) {
            Some(n) if n.is_finite() && n > 0.0 => Ok(n),
            _ => Err(ConfigError::key(key, format!("{value} is not a positive number"))),
        }
    }

    pub(super) fn positive_or(&self, key: &str, default: f32) -> Result<f32, ConfigError> {
        if self.get(key).is_none() { Ok(default) } else { self.positive(key) }
    }
}
