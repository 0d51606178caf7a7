//! Methods of lists, tuples and mappings that change nothing.

use minijinja::{Error, ErrorKind, State, Value};

use super::{
    operators::{equal, lookup},
    value::{Kind, View, bind, expect_index, fail, iterate, kind, pairs, required, tuple},
};

pub(super) const LIST_METHODS: [&str; 3] = ["copy", "count", "index"];
pub(super) const TUPLE_METHODS: [&str; 2] = ["count", "index"];
pub(super) const DICT_METHODS: [&str; 5] = ["copy", "get", "items", "keys", "values"];

pub(super) fn list_method(
    state: &State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let items = iterate(state, value)?;
    match name {
        "copy" => {
            let [] = bind(name, args, [])?;
            Ok(value.clone())
        }
        "count" => {
            let [what] = bind(name, args, ["value"])?;
            let what = required(name, what)?;
            let mut count = 0;
            for item in &items {
                count += i64::from(equal(state, item, &what)?);
            }
            Ok(Value::from(count))
        }
        "index" => {
            let [what, start, stop] = bind(name, args, ["value", "start", "stop"])?;
            let what = required(name, what)?;
            let length = items.len();
            let bound = |bound: Option<Value>, missing: usize| match bound {
                Some(bound) => Ok(clamp(expect_index(&bound, "a place in a list")?, length)),
                None => Ok::<_, Error>(missing),
            };
            let (start, stop) = (bound(start, 0)?, bound(stop, length)?);
            for (place, item) in items.iter().enumerate().take(stop).skip(start) {
                if equal(state, item, &what)? {
                    return Ok(Value::from(place));
                }
            }
            fail("a value is not in the list")
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// A bound of a search, which counts from the end when it is negative.
pub(super) fn clamp(bound: i128, length: usize) -> usize {
    let bound = if bound < 0 { bound + length as i128 } else { bound };
    usize::try_from(bound.max(0)).unwrap_or(usize::MAX).min(length)
}

pub(super) fn dict_method(
    state: &State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if name == "get" {
        let [key, default] = bind(name, args, ["key", "default"])?;
        let found = lookup(value, &required(name, key)?)?;
        return Ok(found.or(default).unwrap_or_else(|| Value::from(())));
    }
    let [] = bind(name, args, [])?;
    if name == "copy" {
        return Ok(value.clone());
    }
    let pairs = pairs(state, value)?.into_iter();
    let (name, items) = match name {
        "keys" => ("dict_keys", pairs.map(|(key, _)| key).collect()),
        "values" => ("dict_values", pairs.map(|(_, item)| item).collect()),
        _ => ("dict_items", pairs.map(|(key, item)| tuple(vec![key, item])).collect()),
    };
    Ok(Value::from_object(View { name, items }))
}

/// `dict(mapping, **more)`, or from pairs.
pub(super) fn dict(state: &State, args: &[Value]) -> Result<Value, Error> {
    let mut entries = Vec::new();
    for given in args {
        if kind(given) == Kind::Dict {
            entries.extend(pairs(state, given)?);
            continue;
        }
        for pair in iterate(state, given)? {
            match iterate(state, &pair)?.as_slice() {
                [key, item] => entries.push((key.clone(), item.clone())),
                _ => return fail("dict takes pairs"),
            }
        }
    }
    Ok(Value::from_pairs(entries))
}
