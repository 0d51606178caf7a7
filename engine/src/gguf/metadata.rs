//! Typed access to GGUF metadata. Errors name the key.

use std::collections::BTreeMap;

/// A metadata value. All integers are one kind: writers differ in the widths they choose.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Int(i128),
    Float(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// A list of lists, which was read over.
    Nested,
}

/// All metadata by key.
#[derive(Debug)]
pub(super) struct Metadata(pub(super) BTreeMap<String, Value>);

/// Largest size taken from metadata; keeps later products inside 64 bits.
const MAX_SIZE: i128 = 1 << 31;

impl Metadata {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    fn require(&self, key: &str) -> Result<&Value, String> {
        self.get(key).ok_or_else(|| format!("metadata key {key} is missing"))
    }

    pub(super) fn text(&self, key: &str) -> Result<&str, String> {
        match self.require(key)? {
            Value::Text(text) => Ok(text),
            _ => Err(format!("metadata key {key} is not a text")),
        }
    }

    pub(super) fn text_opt(&self, key: &str) -> Result<Option<&str>, String> {
        if self.get(key).is_none() { Ok(None) } else { self.text(key).map(Some) }
    }

    /// All texts whose key begins so, by the rest of it.
    pub(super) fn texts_under<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(key, value)| match value {
            Value::Text(text) => Some((key.strip_prefix(prefix)?, text.as_str())),
            _ => None,
        })
    }

    /// A whole number above zero.
    pub(super) fn size(&self, key: &str) -> Result<usize, String> {
        match self.require(key)? {
            Value::Int(n @ 1..=MAX_SIZE) => Ok(*n as usize),
            // Some writers give one number a layer; one for all is what we can do.
            Value::Ints(list) => match list.as_slice() {
                [first, rest @ ..] if *first > 0 && rest.iter().all(|n| n == first) => {
                    Ok(*first as usize)
                }
                _ => Err(format!("metadata key {key} differs by layer; that is not supported")),
            },
            other => Err(format!("metadata key {key} is {other:?}, not a size")),
        }
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize, String> {
        if self.get(key).is_none() { Ok(default) } else { self.size(key) }
    }

    /// A finite number.
    pub(super) fn float(&self, key: &str) -> Result<f32, String> {
        match self.require(key)? {
            Value::Float(n) if n.is_finite() => Ok(*n),
            Value::Int(n) => Ok(*n as f32),
            other => Err(format!("metadata key {key} is {other:?}, not a number")),
        }
    }

    pub(super) fn float_or(&self, key: &str, default: f32) -> Result<f32, String> {
        if self.get(key).is_none() { Ok(default) } else { self.float(key) }
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("metadata key {key} is not a boolean")),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<&[String], String> {
        match self.require(key)? {
            Value::Texts(texts) => Ok(texts),
            _ => Err(format!("metadata key {key} is not a list of texts")),
        }
    }

    pub(super) fn ints(&self, key: &str) -> Result<&[i64], String> {
        match self.require(key)? {
            Value::Ints(ints) => Ok(ints),
            _ => Err(format!("metadata key {key} is not a list of whole numbers")),
        }
    }

    pub(super) fn floats(&self, key: &str) -> Result<&[f32], String> {
        match self.require(key)? {
            Value::Floats(floats) => Ok(floats),
            _ => Err(format!("metadata key {key} is not a list of numbers")),
        }
    }
}
