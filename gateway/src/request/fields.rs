//! Typed reading of a JSON object's fields, with errors that name the field.

use serde_json::{Map, Value};

use super::surrogate;
use crate::error::ApiError;

/// From here on a 64-bit float no longer tells neighbouring whole numbers apart.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// The top-level fields of a request. `null` is the same as absent.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Parses a body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(ApiError::invalid("The body must be a JSON object.")),
            Err(e) => Err(surrogate::refusal(body)
                .unwrap_or_else(|| ApiError::invalid(format!("The body is not JSON: {e}.")))),
        }
    }

    /// The field's value, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A number within a range, borders included.
    pub(crate) fn number(&self, name: &str, low: f64, high: f64) -> Result<Option<f32>, ApiError> {
        self.get(name)
            .map(|value| match value.as_f64() {
                Some(x) if (low..=high).contains(&x) => Ok(x as f32),
                _ => Err(ApiError::field(
                    name,
                    format_args!("must be a number from {low} to {high}, not {}", shown(value)),
                )),
            })
            .transpose()
    }

    /// A whole number within a range, borders included.
    pub(crate) fn integer(&self, name: &str, low: u64, high: u64) -> Result<Option<u64>, ApiError> {
        self.get(name)
            .map(|value| match whole(value).and_then(|x| u64::try_from(x).ok()) {
                Some(x) if (low..=high).contains(&x) => Ok(x),
                _ => Err(ApiError::field(
                    name,
                    format_args!("must be an integer from {low} to {high}, not {}", shown(value)),
                )),
            })
            .transpose()
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name)
            .map(|value| {
                value.as_bool().ok_or_else(|| {
                    let problem = format_args!("must be true or false, not {}", shown(value));
                    ApiError::field(name, problem)
                })
            })
            .transpose()
    }

    /// A string.
    pub(crate) fn string(&self, name: &str) -> Result<Option<&str>, ApiError> {
        self.get(name)
            .map(|value| {
                value.as_str().ok_or_else(|| {
                    ApiError::field(name, format_args!("must be a string, not {}", shown(value)))
                })
            })
            .transpose()
    }

    /// An object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, ApiError> {
        self.get(name)
            .map(|value| {
                value.as_object().ok_or_else(|| {
                    ApiError::field(name, format_args!("must be an object, not {}", shown(value)))
                })
            })
            .transpose()
    }
}

/// A whole number, however it is written: languages with one kind of number send `4.0` for 4.
pub(crate) fn whole(value: &Value) -> Option<i128> {
    if let Some(x) = value.as_u64() {
        return Some(x.into());
    }
    if let Some(x) = value.as_i64() {
        return Some(x.into());
    }
    let x = value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < EXACT_BELOW)?;
    Some(x as i128)
}

/// A value for an error message: whole if short, else its type.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 40 {
        return text;
    }
    match value {
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
        _ => "that",
    }
    .to_owned()
}
