//! `tojson`, as `transformers` overrides it: `json.dumps` and its arguments, with no HTML escapes.

use minijinja::{Error, State, Value};

use super::{
    operators::order,
    print::{Text, float},
    value::{DEPTH_MAX, Kind, bind, expect_str, fail, index, kind, pairs, required, type_name},
};

/// Most that one level is indented by; it keeps the output in proportion to the input.
const INDENT_MAX: usize = 64;

struct Style {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let [value, ascii, indent, separators, sorted] =
        bind("tojson", args, ["value", "ensure_ascii", "indent", "separators", "sort_keys"])?;
    let value = required("tojson", value)?;
    let indent = indent.filter(|indent| !indent.is_none()).map(|indent| match indent.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => match index(&indent) {
            Some(n) => Ok(" ".repeat(usize::try_from(n).unwrap_or(0).min(INDENT_MAX + 1))),
            None => fail("tojson indents by a number or a string"),
        },
    });
    let indent = indent.transpose()?;
    if indent.as_ref().is_some_and(|indent| indent.len() > INDENT_MAX) {
        return fail(format!("tojson indents by at most {INDENT_MAX}"));
    }
    let (item, key) = match separators.filter(|separators| !separators.is_none()) {
        Some(given) => {
            let given: Vec<Value> = given.try_iter()?.collect();
            let [item, key] = given.as_slice() else {
                return fail("tojson takes two separators");
            };
            (expect_str(item, "a separator")?.into(), expect_str(key, "a separator")?.into())
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let truth = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let style = Style { ascii: truth(ascii), indent, item, key, sorted: truth(sorted) };
    let mut out = Text::new(state);
    write(&mut out, &style, &value, 0)?;
    Ok(Value::from(out.finish()))
}

fn write(out: &mut Text<'_>, style: &Style, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return fail("a value is nested too deep for JSON");
    }
    match kind(value) {
        Kind::None => out.push("null"),
        Kind::Bool(b) => out.push(if b { "true" } else { "false" }),
        Kind::Int(n) => out.push(&n.to_string()),
        Kind::Float(x) => out.push(&json_float(x)),
        Kind::Str => write_str(out, style, value.as_str().unwrap_or_default()),
        Kind::List | Kind::Tuple => {
            let items: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
            let write_item = |out: &mut Text<'_>, item: &Value| write(out, style, item, depth + 1);
            write_all(out, style, ["[", "]"], &items, depth, write_item)
        }
        Kind::Dict => {
            let mut items = pairs(out.state(), value)?;
            if style.sorted {
                sort(out.state(), &mut items)?;
            }
            let write_item = |out: &mut Text<'_>, (name, item): &(Value, Value)| {
                write_key(out, style, name)?;
                out.push(&style.key)?;
                write(out, style, item, depth + 1)
            };
            write_all(out, style, ["{", "}"], &items, depth, write_item)
        }
        _ => fail(format!("'{}' can't be written as JSON", type_name(value))),
    }
}

fn write_all<T>(
    out: &mut Text<'_>,
    style: &Style,
    brackets: [&str; 2],
    items: &[T],
    depth: usize,
    write_item: impl Fn(&mut Text<'_>, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(brackets[0])?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(&style.item)?;
        }
        line(out, style, depth + 1)?;
        write_item(out, item)?;
    }
    if !items.is_empty() {
        line(out, style, depth)?;
    }
    out.push(brackets[1])
}

fn line(out: &mut Text<'_>, style: &Style, depth: usize) -> Result<(), Error> {
    let Some(indent) = &style.indent else { return Ok(()) };
    out.push("\n")?;
    (0..depth).try_for_each(|_| out.push(indent))
}

/// By key, as Python compares keys; an error where it can't.
fn sort(state: &State, items: &mut [(Value, Value)]) -> Result<(), Error> {
    let mut failed = None;
    items.sort_by(|(a, _), (b, _)| {
        order(state, a, b).unwrap_or_else(|error| {
            failed = Some(error);
            std::cmp::Ordering::Equal
        })
    });
    failed.map_or(Ok(()), Err)
}

fn write_key(out: &mut Text<'_>, style: &Style, key: &Value) -> Result<(), Error> {
    let text = match kind(key) {
        Kind::Str => return write_str(out, style, key.as_str().unwrap_or_default()),
        Kind::None => "null".to_owned(),
        Kind::Bool(b) => b.to_string(),
        Kind::Int(n) => n.to_string(),
        Kind::Float(x) => json_float(x),
        _ => return fail(format!("'{}' can't be a key in JSON", type_name(key))),
    };
    write_str(out, style, &text)
}

fn json_float(x: f64) -> String {
    if x.is_finite() {
        float(x)
    } else if x.is_nan() {
        "NaN".to_owned()
    } else {
        if x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    }
}

fn write_str(out: &mut Text<'_>, style: &Style, text: &str) -> Result<(), Error> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\u{8}' => quoted += "\\b",
            '\u{c}' => quoted += "\\f",
            c if c < ' ' || (style.ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    quoted += &format!("\\u{unit:04x}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    out.push(&quoted)
}
