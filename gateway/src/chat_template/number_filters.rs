//! Jinja2's filters of numbers.

use minijinja::{Error, State, Value};

use super::{
    characters::is_space,
    value::{Kind, bind, expect_index, fail, index, kind, number, required, type_name},
};

type Answer = Result<Value, Error>;

pub(super) fn abs(_: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("abs", args, ["x"])?;
    let value = required("abs", value)?;
    match (kind(&value), index(&value)) {
        (Kind::Float(x), _) => Ok(Value::from(x.abs())),
        (_, Some(n)) => Ok(Value::from(n.saturating_abs())),
        _ => fail(format!("abs is not for {}", type_name(&value))),
    }
}

pub(super) fn float(_: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, default] = bind("float", args, ["value", "default"])?;
    let value = required("float", value)?;
    if value.is_undefined() {
        return fail("something undefined is no number");
    }
    let number = number(&value).or_else(|| value.as_str().and_then(parse_float));
    Ok(number.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
}

/// `float(text)`.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let bytes = text.as_bytes();
    let misplaced = (0..bytes.len()).any(|i| {
        let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
        bytes[i] == b'_' && !(i > 0 && digit(i - 1) && digit(i + 1))
    });
    if misplaced { None } else { text.replace('_', "").parse().ok() }
}

pub(super) fn int(_: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, default, base] = bind("int", args, ["value", "default", "base"])?;
    let value = required("int", value)?;
    let base = base.map_or(Ok(10), |base| expect_index(&base, "a base"))?;
    let whole = |x: f64| (x.abs() < 1e38).then(|| x.trunc() as i128);
    let number = match kind(&value) {
        Kind::Undefined => return fail("something undefined is no number"),
        Kind::Float(x) if x.is_infinite() => return fail("infinity is no whole number"),
        Kind::Float(x) => whole(x),
        Kind::Str => {
            let text = value.as_str().unwrap_or_default();
            parse_int(text, base).or_else(|| parse_float(text).and_then(whole))
        }
        _ => index(&value),
    };
    Ok(number.map_or_else(|| default.unwrap_or_else(|| Value::from(0)), Value::from))
}

/// `int(text, base)`.
fn parse_int(text: &str, base: i128) -> Option<i128> {
    let text = text.trim_matches(is_space);
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match (base, prefix.as_deref()) {
        (0 | 16, Some("0x")) => (16, &digits[2..]),
        (0 | 8, Some("0o")) => (8, &digits[2..]),
        (0 | 2, Some("0b")) => (2, &digits[2..]),
        (0, _) => (10, digits),
        (base, _) => (u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?, digits),
    };
    let alone =
        digits.starts_with(['_', '+', '-']) || digits.ends_with('_') || digits.contains("__");
    if alone {
        return None;
    }
    let n = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -n } else { n })
}

pub(super) fn round(_: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, precision, method] = bind("round", args, ["value", "precision", "method"])?;
    let value = required("round", value)?;
    let precision = precision.map_or(Ok(0), |value| expect_index(&value, "a precision"))?;
    let precision = i32::try_from(precision.clamp(-300, 300)).unwrap_or(0);
    let Some(x) = number(&value) else {
        return fail(format!("round is not for {}", type_name(&value)));
    };
    let scale = 10_f64.powi(precision);
    match method.as_ref().map_or(Some("common"), Value::as_str) {
        // Python rounds to a whole number, which has no negative zero.
        Some("ceil") => Ok(Value::from(((x * scale).ceil() + 0.0) / scale)),
        Some("floor") => Ok(Value::from(((x * scale).floor() + 0.0) / scale)),
        Some("common") => match index(&value) {
            Some(n) if precision >= 0 => Ok(Value::from(n)),
            Some(n) => {
                let unit = 10_i128.checked_pow(precision.unsigned_abs()).unwrap_or(i128::MAX);
                let (down, rest) = (n.div_euclid(unit), n.rem_euclid(unit));
                let up = rest > unit - rest || (rest == unit - rest && down % 2 != 0);
                Ok(Value::from((down + i128::from(up)).saturating_mul(unit)))
            }
            None if !x.is_finite() => Ok(value),
            None if precision >= 0 => {
                let digits = usize::try_from(precision).unwrap_or(0);
                Ok(Value::from(format!("{x:.digits$}").parse::<f64>().unwrap_or(x)))
            }
            None => Ok(Value::from((x * scale).round_ties_even() / scale)),
        },
        _ => fail("round is common, ceil or floor"),
    }
}
