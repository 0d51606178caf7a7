//! `str(value)` and `repr(value)`.

use minijinja::{Error, State, Value};

use super::value::{DEPTH_MAX, Kind, Range, View, charge, fail, is_namespace, kind, pairs};

/// How many bytes may be written before they are paid for.
const UNPAID_BYTES_MAX: usize = 4 << 10;

/// A text that is paid for while it grows, since a small value can print as a huge one.
pub(super) struct Text<'a> {
    state: &'a State<'a, 'a>,
    text: String,
    paid: usize,
}

impl<'a> Text<'a> {
    pub(super) fn new(state: &'a State<'_, '_>) -> Self {
        Self { state, text: String::new(), paid: 0 }
    }

    pub(super) fn push(&mut self, piece: &str) -> Result<(), Error> {
        self.text.push_str(piece);
        let unpaid = self.text.len() - self.paid;
        if unpaid >= UNPAID_BYTES_MAX {
            self.paid = self.text.len();
            charge(self.state, unpaid)?;
        }
        Ok(())
    }

    pub(super) fn state(&self) -> &'a State<'a, 'a> {
        self.state
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// `str(value)`.
pub(super) fn to_text(state: &State, value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => represent(state, value),
    }
}

/// `repr(value)`.
pub(super) fn represent(state: &State, value: &Value) -> Result<String, Error> {
    let mut out = Text::new(state);
    write(&mut out, value, 0)?;
    Ok(out.finish())
}

fn write(out: &mut Text<'_>, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return fail("a value is nested too deep to print");
    }
    let items = || -> Result<Vec<Value>, Error> { value.try_iter()?.checked().collect() };
    match kind(value) {
        Kind::Undefined => out.push("Undefined"),
        Kind::None => out.push("None"),
        Kind::Bool(b) => out.push(if b { "True" } else { "False" }),
        Kind::Int(n) => out.push(&n.to_string()),
        Kind::Float(x) => out.push(&float(x)),
        Kind::Str if value.is_safe() => {
            out.push(&format!("Markup({})", quoted(value.as_str().unwrap_or_default())))
        }
        Kind::Str => out.push(&quoted(value.as_str().unwrap_or_default())),
        Kind::List => write_items(out, ["[", "]"], &items()?, depth),
        Kind::Tuple => {
            let items = items()?;
            write_items(out, ["(", if items.len() == 1 { ",)" } else { ")" }], &items, depth)
        }
        Kind::Dict => {
            out.push("{")?;
            for (i, (key, item)) in pairs(out.state(), value)?.iter().enumerate() {
                if i > 0 {
                    out.push(", ")?;
                }
                write(out, key, depth + 1)?;
                out.push(": ")?;
                write(out, item, depth + 1)?;
            }
            out.push("}")
        }
        Kind::Range => {
            let range = value.downcast_object_ref::<Range>();
            let text = range.map(|range| match range.step {
                1 => format!("range({}, {})", range.start, range.stop),
                step => format!("range({}, {}, {step})", range.start, range.stop),
            });
            out.push(&text.unwrap_or_default())
        }
        Kind::View => {
            let Some(view) = value.downcast_object_ref::<View>() else { return Ok(()) };
            out.push(view.name)?;
            write_items(out, ["([", "])"], &view.items, depth)
        }
        Kind::Other if is_namespace(value) => out.push(&format!("<Namespace {value}>")),
        Kind::Generator | Kind::Other => out.push(&value.to_string()),
    }
}

fn write_items(
    out: &mut Text<'_>,
    brackets: [&str; 2],
    items: &[Value],
    depth: usize,
) -> Result<(), Error> {
    out.push(brackets[0])?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(", ")?;
        }
        write(out, item, depth + 1)?;
    }
    out.push(brackets[1])
}

/// A float as Python writes it: the shortest digits that read back the same, with an exponent from
/// 1e16 up and below 1e-4.
pub(super) fn float(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() {
            "nan"
        } else if x > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    // Rust's debugging output has the same bounds, but writes `1e16` for `1e+16`.
    let text = format!("{x:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{}e{sign}{exponent:0>2}", digits.strip_suffix(".0").unwrap_or(digits))
        }
        None => text,
    }
}

/// A string in quotes: single ones, unless only double ones need no escape.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) < 0x100 => out += &format!("\\x{:02x}", u32::from(c)),
            c if u32::from(c) < 0x1_0000 => out += &format!("\\u{:04x}", u32::from(c)),
            c => out += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    out.push(quote);
    out
}

/// `str.isprintable` of one character. Rust's own escaping goes by the same Unicode categories;
/// after a first character it leaves combining marks alone, as Python does.
pub(super) fn is_printable(c: char) -> bool {
    let pair: String = ['a', c].iter().collect();
    matches!(c, '\'' | '"' | '\\') || pair.escape_debug().count() == 2
}
