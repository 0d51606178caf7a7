//! `format % values` and `format.format(values)`.

use minijinja::{
    Error, State, Value,
    formatting::{FormatStyle, format},
    value::{Kwargs, from_args},
};

use super::{
    lookup::{get_attribute, get_item},
    operators::lookup,
    print::{float, represent, to_text},
    value::{Kind, charge, expect_index, fail, index, iterate, kind, number, type_name},
};

/// `format % values`: a tuple has one value for each place, a mapping has them by name, and
/// anything else is the only one.
pub(super) fn percent(state: &State, format: &str, values: &Value) -> Result<String, Error> {
    let mut positional = match kind(values) {
        Kind::Tuple => iterate(state, values)?,
        _ => vec![values.clone()],
    }
    .into_iter();
    let mut out = String::new();
    let mut named = false;
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        let key = match rest.strip_prefix('(') {
            Some(after) => {
                let Some((key, after)) = split_key(after) else {
                    return fail("a key in a format string does not end");
                };
                rest = after;
                Some(key)
            }
            None => None,
        };
        let mut next = |what: &str| {
            positional.next().map_or_else(|| fail(format!("a format string lacks {what}")), Ok)
        };
        let mut place = Place::default();
        rest = place.read(rest, &mut next)?;
        let Some(conversion) = rest.chars().next() else {
            return fail("a format string ends in the middle");
        };
        rest = &rest[conversion.len_utf8()..];
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = match key {
            Some(key) if kind(values) == Kind::Dict => {
                named = true;
                match lookup(values, &Value::from(key))? {
                    Some(value) => value,
                    None => return fail(format!("a format string has no value for {key}")),
                }
            }
            Some(_) => return fail("a format string needs a mapping"),
            None => next("a value")?,
        };
        let piece = place.convert(state, conversion, &value)?;
        charge(state, piece.len())?;
        out += &piece;
    }
    out += rest;
    let left_over = positional.next().is_some() && !named && kind(values) != Kind::Dict;
    // A list is one value to format, but takes the place of a mapping where there is none.
    if left_over && kind(values) != Kind::List {
        return fail("not all values of a format string are used");
    }
    Ok(out)
}

/// The key and what follows its closing bracket; keys may have brackets themselves.
fn split_key(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

/// One place of a format string: `%[flags][width][.precision]`.
#[derive(Default)]
struct Place {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

impl Place {
    fn read<'a>(
        &mut self,
        text: &'a str,
        next: &mut impl FnMut(&str) -> Result<Value, Error>,
    ) -> Result<&'a str, Error> {
        let mut rest = text;
        loop {
            match rest.as_bytes().first() {
                Some(b'-') => self.left = true,
                Some(b'+') => self.plus = true,
                Some(b' ') => self.space = true,
                Some(b'0') => self.zero = true,
                Some(b'#') => self.alternate = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        let (width, after) = size(rest, next)?;
        rest = after;
        if let Some(width) = width {
            self.left |= width < 0;
            self.width = width.unsigned_abs() as usize;
        }
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = size(after, next)?;
            rest = after;
            self.precision = Some(usize::try_from(precision.unwrap_or(0)).unwrap_or(0));
        }
        Ok(rest.trim_start_matches(['l', 'h', 'L']))
    }

    fn convert(&self, state: &State, conversion: char, value: &Value) -> Result<String, Error> {
        charge(state, self.width.max(self.precision.unwrap_or(0)))?;
        let cut = |text: String| match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
        };
        let precision = self.precision.unwrap_or(6);
        Ok(match conversion {
            's' => self.pad(cut(to_text(state, value)?)),
            'r' => self.pad(cut(represent(state, value)?)),
            'd' | 'i' | 'u' => {
                let n = match kind(value) {
                    Kind::Float(x) if x.is_finite() => x.trunc() as i128,
                    _ => expect_index(value, "what %d formats")?,
                };
                self.signed(n < 0, self.digits(n.unsigned_abs().to_string()))
            }
            'x' | 'X' | 'o' => {
                let n = expect_index(value, "what %x formats")?;
                let (prefix, digits) = match conversion {
                    'x' => ("0x", format!("{:x}", n.unsigned_abs())),
                    'X' => ("0X", format!("{:X}", n.unsigned_abs())),
                    _ => ("0o", format!("{:o}", n.unsigned_abs())),
                };
                let prefix = if self.alternate { prefix } else { "" };
                self.signed(n < 0, format!("{prefix}{}", self.digits(digits)))
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                let Some(x) = number(value) else {
                    return fail(format!("a float is needed, not {}", type_name(value)));
                };
                let (negative, x) = (x.is_sign_negative(), x.abs());
                let text = match conversion.to_ascii_lowercase() {
                    _ if !x.is_finite() => float(x),
                    'f' => format!("{x:.precision$}"),
                    'e' => exponent(x, precision),
                    _ => general(x, precision.max(1)),
                };
                let upper = conversion.is_ascii_uppercase();
                self.signed(negative, if upper { text.to_uppercase() } else { text })
            }
            'c' => match (value.as_str(), index(value)) {
                (Some(text), _) if text.chars().count() == 1 => self.pad(text.to_owned()),
                (None, Some(n)) => match u32::try_from(n).ok().and_then(char::from_u32) {
                    Some(c) => self.pad(c.to_string()),
                    None => return fail("%c formats a character"),
                },
                _ => return fail("%c formats a character"),
            },
            other => return fail(format!("a format string has no %{other}")),
        })
    }

    /// Digits with the zeros that a precision asks for.
    fn digits(&self, digits: String) -> String {
        format!("{}{digits}", "0".repeat(self.precision.unwrap_or(0).saturating_sub(digits.len())))
    }

    fn signed(&self, negative: bool, digits: String) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let missing = self.width.saturating_sub(sign.len() + digits.len());
        if self.zero && !self.left {
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        self.pad(format!("{sign}{digits}"))
    }

    fn pad(&self, text: String) -> String {
        let blank = " ".repeat(self.width.saturating_sub(text.chars().count()));
        if self.left { text + &blank } else { blank + &text }
    }
}

/// A width or a precision: digits, or `*` for the next value.
fn size<'a>(
    text: &'a str,
    next: &mut impl FnMut(&str) -> Result<Value, Error>,
) -> Result<(Option<i64>, &'a str), Error> {
    let (size, rest) = match text.strip_prefix('*') {
        Some(rest) => (expect_index(&next("a width")?, "a width")?, rest),
        None => {
            let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
            let digits = &text[..text.len() - rest.len()];
            if digits.is_empty() {
                return Ok((None, rest));
            }
            (digits.parse().unwrap_or(i128::MAX), rest)
        }
    };
    match i64::try_from(size) {
        // Rust formats floats with at most this many digits.
        Ok(size) if size.unsigned_abs() < u64::from(u16::MAX) => Ok((Some(size), rest)),
        _ => fail("a width in a format string is too large"),
    }
}

fn exponent(x: f64, precision: usize) -> String {
    let text = format!("{x:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// `%g`: as many significant digits, without the zeros at the end.
fn general(x: f64, precision: usize) -> String {
    let scientific = exponent(x, precision - 1);
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let shorten = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if power < -4 || power >= precision as i64 {
        return format!("{}e{}", shorten(digits), &scientific[digits.len() + 1..]);
    }
    let decimals = usize::try_from(precision as i64 - 1 - power).unwrap_or(0);
    shorten(&format!("{x:.decimals$}"))
}

/// `text.format(values)`.
pub(super) fn braces(state: &State, text: &str, args: &[Value]) -> Result<String, Error> {
    let (positional, named): (&[Value], Kwargs) = from_args(args)?;
    let named = Value::from(named);
    let mut out = String::new();
    let mut automatic = 0;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        out += &rest[..at];
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            out += brace;
            rest = after;
            continue;
        }
        let Some((field, after)) = rest.split_once('}').filter(|_| brace == "{") else {
            return fail("a brace in a format string is alone");
        };
        rest = after;
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (path, conversion) = field.split_once('!').unwrap_or((field, "s"));
        let (name, path) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
        let place = if name.is_empty() { Ok(automatic) } else { name.parse::<usize>() };
        automatic += usize::from(name.is_empty());
        let value = match place {
            Ok(place) => positional.get(place).cloned(),
            Err(_) => lookup(&named, &Value::from(name))?,
        };
        let Some(value) = value else {
            return fail(format!("a format string has no value for {{{name}}}"));
        };
        let value = follow(state, value, path)?;
        let piece = match (conversion, spec) {
            ("r", "") => represent(state, &value)?,
            ("s", "") => to_text(state, &value)?,
            ("s", spec) if !spec.contains('{') => aligned(state, &value, spec)?,
            _ => return fail("a format string is not understood"),
        };
        charge(state, piece.len())?;
        out += &piece;
    }
    Ok(out + rest)
}

/// The attribute or item of a value that a format string names: `.name` or `[key]`.
fn follow(state: &State, mut value: Value, path: &str) -> Result<Value, Error> {
    let mut rest = path;
    while !rest.is_empty() {
        let (key, after) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some(found) => found,
            None => {
                let name = &rest[1..];
                name.split_at(name.find(['.', '[']).unwrap_or(name.len()))
            }
        };
        let is_item = rest.starts_with('[');
        rest = after;
        value = match key.parse::<i64>() {
            Ok(n) if is_item => get_item(state, &value, &Value::from(n))?,
            _ if is_item => get_item(state, &value, &Value::from(key))?,
            _ => get_attribute(&value, key)?,
        };
    }
    Ok(value)
}

/// A text by a specification `[[fill]align][0][width][.precision][s]`, whose sizes are characters
/// (Python's "Format Specification Mini-Language"); the engine counts bytes.
fn aligned_text(text: &str, spec: &str) -> Result<String, Error> {
    let is_align = |c: char| matches!(c, '<' | '>' | '^');
    let mut chars = spec.chars();
    let (fill, align, rest) = match (chars.next(), chars.next()) {
        (Some(fill), Some(align)) if is_align(align) => (Some(fill), align, chars.as_str()),
        (Some(align), _) if is_align(align) => (None, align, &spec[1..]),
        _ => (None, '<', spec),
    };
    let (zero, rest) = rest.strip_prefix('0').map_or((false, rest), |rest| (true, rest));
    let fill = fill.unwrap_or(if zero { '0' } else { ' ' });
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (width, rest) = rest.split_at(digits(rest));
    let (precision, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("no limit", rest),
    };
    if !matches!(rest, "" | "s") || precision.is_empty() {
        return fail("a text has no such format");
    }
    let cut: String = text.chars().take(precision.parse().unwrap_or(usize::MAX)).collect();
    let blank = width.parse::<usize>().unwrap_or(0).saturating_sub(cut.chars().count());
    let left = match align {
        '<' => 0,
        '>' => blank,
        _ => blank / 2,
    };
    let fills = |count: usize| fill.to_string().repeat(count);
    Ok(format!("{}{cut}{}", fills(left), fills(blank - left)))
}

/// `format(value, spec)`, by the engine.
fn aligned(state: &State, value: &Value, spec: &str) -> Result<String, Error> {
    let sizes = spec.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let widest = sizes.map(|digits| digits.parse().unwrap_or(usize::MAX)).max().unwrap_or(0);
    if widest > usize::from(u16::MAX) {
        return fail("a width in a format string is too large");
    }
    if !matches!(kind(value), Kind::Str | Kind::Int(_) | Kind::Float(_) | Kind::Bool(_)) {
        return fail(format!("{} has no format", type_name(value)));
    }
    charge(state, widest)?;
    if let Some(text) = value.as_str() {
        return aligned_text(text, spec);
    }
    format(FormatStyle::StrFormat, &format!("{{:{spec}}}"), std::slice::from_ref(value))
}
