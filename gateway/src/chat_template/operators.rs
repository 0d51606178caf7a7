//! Python's operators on the engine's values.

use std::cmp::Ordering;

use minijinja::{Error, State, Value};

use super::{
    format::percent,
    print::to_text,
    strings::marked,
    value::{DEPTH_MAX, Kind, charge, fail, index, iterate, kind, number, pairs, tuple, type_name},
};

/// Most bytes, or items, that one operation makes.
pub(super) const SIZE_MAX: usize = 64 << 20;

fn unsupported<T>(operator: &str, left: &Value, right: &Value) -> Result<T, Error> {
    fail(format!("{operator} is not for {} and {}", type_name(left), type_name(right)))
}

fn whole(number: Option<i128>) -> Result<Value, Error> {
    number.map_or_else(|| fail("a number grows too large"), |n| Ok(Value::from(n)))
}

/// Both as whole numbers, or both as floats.
enum Numbers {
    Whole(i128, i128),
    Float(f64, f64),
}

fn numbers(left: &Value, right: &Value) -> Option<Numbers> {
    match (index(left), index(right)) {
        (Some(a), Some(b)) => Some(Numbers::Whole(a, b)),
        _ => Some(Numbers::Float(number(left)?, number(right)?)),
    }
}

pub(super) fn add(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(both) = numbers(left, right) {
        return match both {
            Numbers::Whole(a, b) => whole(a.checked_add(b)),
            Numbers::Float(a, b) => Ok(Value::from(a + b)),
        };
    }
    match (kind(left), kind(right)) {
        (Kind::Str, Kind::Str) => {
            let (a, b) = (left.as_str().unwrap_or_default(), right.as_str().unwrap_or_default());
            charge(state, a.len() + b.len())?;
            // What is marked as safe for HTML escapes what is added to it.
            Ok(match (left.is_safe(), right.is_safe()) {
                (false, false) => Value::from([a, b].concat()),
                (true, true) => Value::from_safe_string([a, b].concat()),
                (true, false) => Value::from_safe_string([a, &escape(b)].concat()),
                (false, true) => Value::from_safe_string([&escape(a), b].concat()),
            })
        }
        (Kind::List, Kind::List) => Ok(Value::from(joined(state, left, right)?)),
        (Kind::Tuple, Kind::Tuple) => Ok(tuple(joined(state, left, right)?)),
        _ => unsupported("+", left, right),
    }
}

fn joined(state: &State, left: &Value, right: &Value) -> Result<Vec<Value>, Error> {
    let mut items = iterate(state, left)?;
    items.append(&mut iterate(state, right)?);
    Ok(items)
}

/// As `markupsafe.escape`.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&#34;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

pub(super) fn subtract(_: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    match numbers(left, right) {
        Some(Numbers::Whole(a, b)) => whole(a.checked_sub(b)),
        Some(Numbers::Float(a, b)) => Ok(Value::from(a - b)),
        None => unsupported("-", left, right),
    }
}

pub(super) fn multiply(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    let (what, count) = match (index(left), index(right)) {
        (None, Some(count)) => (left, count),
        (Some(count), None) => (right, count),
        (Some(a), Some(b)) => return whole(a.checked_mul(b)),
        (None, None) => (left, 0),
    };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    match (kind(what), numbers(left, right)) {
        (_, Some(Numbers::Float(a, b))) => Ok(Value::from(a * b)),
        (Kind::Str, _) if index(left).or(index(right)).is_some() => {
            let text = what.as_str().unwrap_or_default();
            let repeated = Value::from(text.repeat(repetitions(state, text.len(), count)?));
            Ok(if what.is_safe() { marked(&repeated) } else { repeated })
        }
        (kind @ (Kind::List | Kind::Tuple), _) if index(left).or(index(right)).is_some() => {
            let items = iterate(state, what)?;
            // An item is 24 bytes, and is paid for as that.
            let count = repetitions(state, items.len() * 24, count)?;
            let items: Vec<Value> = std::iter::repeat_n(items, count).flatten().collect();
            Ok(if kind == Kind::List { Value::from(items) } else { tuple(items) })
        }
        _ => unsupported("*", left, right),
    }
}

/// The count, once what it makes is paid for.
fn repetitions(state: &State, size: usize, count: usize) -> Result<usize, Error> {
    match size.checked_mul(count) {
        Some(total) if total <= SIZE_MAX => charge(state, total).map(|()| count),
        _ => {
            state.consume_fuel(u64::MAX >> 8)?;
            fail("a value grows too large")
        }
    }
}

pub(super) fn divide(_: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    match (number(left), number(right)) {
        (Some(_), Some(0.0)) => fail("division by zero"),
        (Some(a), Some(b)) => Ok(Value::from(a / b)),
        _ => unsupported("/", left, right),
    }
}

pub(super) fn floor_divide(_: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    match numbers(left, right) {
        Some(Numbers::Whole(_, 0) | Numbers::Float(_, 0.0)) => fail("division by zero"),
        Some(Numbers::Whole(a, b)) => {
            let rounded = a.checked_div(b);
            let down = a % b != 0 && (a < 0) != (b < 0);
            whole(rounded.map(|n| n - i128::from(down)))
        }
        Some(Numbers::Float(a, b)) => Ok(Value::from(((a - float_remainder(a, b)) / b).round())),
        None => unsupported("//", left, right),
    }
}

/// The remainder with the sign of the divisor.
fn float_remainder(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
        rest + b
    } else if rest == 0.0 {
        0.0_f64.copysign(b)
    } else {
        rest
    }
}

pub(super) fn remainder(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(format) = left.as_str() {
        return percent(state, format, right).map(Value::from);
    }
    match numbers(left, right) {
        Some(Numbers::Whole(_, 0) | Numbers::Float(_, 0.0)) => fail("modulo by zero"),
        Some(Numbers::Whole(a, b)) => {
            let rest = a.checked_rem(b).unwrap_or(0);
            whole(Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
        }
        Some(Numbers::Float(a, b)) => Ok(Value::from(float_remainder(a, b))),
        None => unsupported("%", left, right),
    }
}

pub(super) fn power(_: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    match numbers(left, right) {
        Some(Numbers::Whole(a, b)) if b >= 0 => match a {
            0 | 1 => Ok(Value::from(if b == 0 { 1 } else { a })),
            _ => whole(u32::try_from(b).ok().and_then(|b| a.checked_pow(b))),
        },
        Some(both) => {
            let (a, b) = match both {
                Numbers::Whole(a, b) => (a as f64, b as f64),
                Numbers::Float(a, b) => (a, b),
            };
            let result = a.powf(b);
            if a == 0.0 && b < 0.0 {
                fail("zero has no negative power")
            } else if result.is_finite() || !a.is_finite() || !b.is_finite() {
                Ok(Value::from(result))
            } else {
                fail("a power is no float")
            }
        }
        None => unsupported("**", left, right),
    }
}

pub(super) fn negate(value: &Value) -> Result<Value, Error> {
    match kind(value) {
        Kind::Float(x) => Ok(Value::from(-x)),
        _ => match index(value) {
            Some(n) => whole(n.checked_neg()),
            None => fail(format!("- is not for {}", type_name(value))),
        },
    }
}

pub(super) fn concat(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    let mut text = to_text(state, left)?;
    text += &to_text(state, right)?;
    charge(state, text.len())?;
    Ok(Value::from(text))
}

pub(super) fn equal(state: &State, left: &Value, right: &Value) -> Result<bool, Error> {
    equal_at(state, left, right, 0)
}

fn equal_at(state: &State, left: &Value, right: &Value, depth: usize) -> Result<bool, Error> {
    if depth > DEPTH_MAX {
        return fail("values are nested too deep to compare");
    }
    state.consume_fuel(1)?;
    if let Some(both) = numbers(left, right) {
        return Ok(match both {
            Numbers::Whole(a, b) => a == b,
            Numbers::Float(a, b) => a == b,
        });
    }
    Ok(match (kind(left), kind(right)) {
        (Kind::Undefined, Kind::Undefined) | (Kind::None, Kind::None) => true,
        (Kind::Str, Kind::Str) => {
            charge(state, left.as_str().map_or(0, str::len))?;
            left.as_str() == right.as_str()
        }
        (Kind::List, Kind::List) | (Kind::Tuple, Kind::Tuple) | (Kind::Range, Kind::Range) => {
            let (a, b) = (iterate(state, left)?, iterate(state, right)?);
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(&b) {
                if !equal_at(state, a, b, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Kind::Dict, Kind::Dict) => {
            let (a, b) = (pairs(state, left)?, pairs(state, right)?);
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, a) in &a {
                match lookup(right, key)? {
                    Some(b) if equal_at(state, a, &b, depth + 1)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        // The same object, or another one.
        (Kind::Generator | Kind::View | Kind::Other, _) => same(left, right),
        _ => false,
    })
}

/// Whether two objects are one.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (left.as_object(), right.as_object()) {
        (Some(_), Some(_)) => left == right,
        _ => false,
    }
}

/// The value under a key of a mapping; an error where the key is of a kind that no key is.
pub(super) fn lookup(mapping: &Value, key: &Value) -> Result<Option<Value>, Error> {
    if matches!(kind(key), Kind::List | Kind::Dict | Kind::View) {
        return fail(format!("a key is not {}", type_name(key)));
    }
    // Also what is undefined has a place in a mapping.
    Ok(mapping.as_object().and_then(|object| object.get_value(key)))
}

/// `left < right` and its like: the order of two values that have one.
pub(super) fn order(state: &State, left: &Value, right: &Value) -> Result<Ordering, Error> {
    partial_order(state, left, right, 0)?.map_or_else(|| fail("nan has no order"), Ok)
}

/// No order where one is not a number.
fn partial_order(
    state: &State,
    left: &Value,
    right: &Value,
    depth: usize,
) -> Result<Option<Ordering>, Error> {
    if depth > DEPTH_MAX {
        return fail("values are nested too deep to compare");
    }
    state.consume_fuel(1)?;
    if let Some(both) = numbers(left, right) {
        return Ok(match both {
            Numbers::Whole(a, b) => Some(a.cmp(&b)),
            Numbers::Float(a, b) => a.partial_cmp(&b),
        });
    }
    match (kind(left), kind(right)) {
        (Kind::Str, Kind::Str) => {
            charge(state, left.as_str().map_or(0, str::len))?;
            Ok(left.as_str().partial_cmp(&right.as_str()))
        }
        (Kind::List, Kind::List) | (Kind::Tuple, Kind::Tuple) => {
            let (a, b) = (iterate(state, left)?, iterate(state, right)?);
            for (a, b) in a.iter().zip(&b) {
                if !equal_at(state, a, b, depth + 1)? {
                    return partial_order(state, a, b, depth + 1);
                }
            }
            Ok(Some(a.len().cmp(&b.len())))
        }
        _ => unsupported("<", left, right),
    }
}

/// Whether the order of two values is one that `accept` takes.
pub(super) fn ordered(
    state: &State,
    left: &Value,
    right: &Value,
    accept: fn(Ordering) -> bool,
) -> Result<bool, Error> {
    Ok(partial_order(state, left, right, 0)?.is_some_and(accept))
}

/// `item in container`.
pub(super) fn contains(state: &State, container: &Value, item: &Value) -> Result<bool, Error> {
    match kind(container) {
        Kind::Str => match item.as_str() {
            Some(item) => {
                let text = container.as_str().unwrap_or_default();
                charge(state, text.len())?;
                Ok(text.contains(item))
            }
            None => fail(format!("{} is not in a string", type_name(item))),
        },
        Kind::Dict => Ok(lookup(container, item)?.is_some()),
        _ => {
            for member in iterate(state, container)? {
                if equal(state, &member, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
