//! Jinja2's filters of text.

use minijinja::{
    Error, State, Value,
    value::{Kwargs, from_args},
};

use super::{
    characters::is_space,
    format::percent,
    operators, pieces,
    print::{Text, to_text},
    sizes, strings,
    value::{
        Kind, bind, charge, expect_index, expect_str, fail, iterate, kind, number, pairs, required,
        tuple, type_name,
    },
};

type Answer = Result<Value, Error>;

/// The text of a filter that takes nothing else; what is safe for HTML stays so where it may.
fn text(state: &State, name: &str, args: &[Value]) -> Result<String, Error> {
    let [value] = bind(name, args, ["s"])?;
    to_text(state, &required(name, value)?)
}

/// A method of strings as a filter, on the text of any value.
pub(super) fn by_method(state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Answer {
    let text = string(state, args)?;
    strings::method(state, &text, name, &[])
}

pub(super) fn center(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, width] = bind("center", args, ["value", "width"])?;
    let text = string(state, &[required("center", value)?])?;
    strings::method(state, &text, "center", &[width.unwrap_or_else(|| Value::from(80))])
}

pub(super) fn trim(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, chars] = bind("trim", args, ["value", "chars"])?;
    let value = required("trim", value)?;
    let text = to_text(state, &value)?;
    let stripped = pieces::strip(&text, "strip", chars)?;
    Ok(if value.is_safe() {
        Value::from_safe_string(stripped.to_owned())
    } else {
        Value::from(stripped)
    })
}

pub(super) fn string(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("string", args, ["object"])?;
    let value = required("string", value)?;
    if value.as_str().is_some() { Ok(value) } else { to_text(state, &value).map(Value::from) }
}

pub(super) fn safe(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    text(state, "safe", args).map(Value::from_safe_string)
}

pub(super) fn escape(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("escape", args, ["s"])?;
    let value = required("escape", value)?;
    if value.is_safe() {
        return Ok(value);
    }
    force_escape(state, &[value])
}

pub(super) fn force_escape(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let text = text(state, "forceescape", args)?;
    charge(state, text.len() * 5)?;
    Ok(Value::from_safe_string(operators::escape(&text)))
}

pub(super) fn file_size(_: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, binary] = bind("filesizeformat", args, ["value", "binary"])?;
    let value = required("filesizeformat", value)?;
    let bytes = match (number(&value), value.as_str()) {
        (Some(bytes), _) => bytes,
        (None, Some(text)) => match text.trim_matches(is_space).parse() {
            Ok(bytes) => bytes,
            Err(_) => return fail("filesizeformat takes a number"),
        },
        _ => return fail(format!("filesizeformat is not for {}", type_name(&value))),
    };
    let binary = binary.is_some_and(|binary| binary.is_true());
    let base = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok(Value::from("1 Byte"));
    }
    if bytes < base {
        return Ok(Value::from(format!("{} Bytes", bytes.trunc() as i64)));
    }
    let units = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut unit = base;
    for (place, prefix) in units.iter().enumerate() {
        unit *= base;
        if bytes < unit || place + 1 == units.len() {
            let prefix =
                if binary { format!("{}i", prefix.to_uppercase()) } else { (*prefix).into() };
            return Ok(Value::from(format!("{:.1} {prefix}B", base * bytes / unit)));
        }
    }
    fail("filesizeformat has no unit")
}

pub(super) fn format(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let (given, named): (&[Value], Kwargs) = from_args(args)?;
    let Some((value, rest)) = given.split_first() else { return fail("format lacks a value") };
    let has_names = named.args().next().is_some();
    let values = match (rest.is_empty(), has_names) {
        (false, true) => return fail("format takes values by place or by name, not both"),
        (_, false) => tuple(rest.to_vec()),
        (true, true) => {
            let pairs = named.args().map(|name| Ok((name, named.peek::<Value>(name)?)));
            Value::from_pairs(pairs.collect::<Result<Vec<_>, Error>>()?)
        }
    };
    percent(state, &to_text(state, value)?, &values).map(Value::from)
}

pub(super) fn indent(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, width, first, blank] = bind("indent", args, ["s", "width", "first", "blank"])?;
    let value = required("indent", value)?;
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let (first, blank) = (is_true(first), is_true(blank));
    let indention = match &width {
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let width = expect_index(width, "a width")?;
                let width = usize::try_from(width).unwrap_or(0).min(usize::from(u16::MAX));
                " ".repeat(width)
            }
        },
        None => "    ".to_owned(),
    };
    let text = format!("{}\n", expect_str(&value, "what is indented")?);
    let mut out = Text::new(state);
    for (place, line) in pieces::lines(&text, false).into_iter().enumerate() {
        if place > 0 {
            out.push("\n")?;
        }
        if if place == 0 { first } else { blank || !line.is_empty() } {
            out.push(&indention)?;
        }
        out.push(line)?;
    }
    let indented = Value::from(out.finish());
    Ok(if value.is_safe() { strings::marked(&indented) } else { indented })
}

pub(super) fn replace(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, old, new, count] = bind("replace", args, ["s", "old", "new", "count"])?;
    let value = to_text(state, &required("replace", value)?)?;
    let old = to_text(state, &required("replace", old)?)?;
    let new = to_text(state, &required("replace", new)?)?;
    let count = count.filter(|count| !count.is_none());
    let count = count.map_or(Ok(-1), |count| expect_index(&count, "a count"))?;
    sizes::replace(state, &value, &old, &new, count).map(Value::from)
}

pub(super) fn strip_tags(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let text = text(state, "striptags", args)?;
    let without = cut(&cut(&text, "<!--", "-->"), "<", ">");
    let words: Vec<&str> = without.split(is_space).filter(|word| !word.is_empty()).collect();
    Ok(Value::from(unescape(&words.join(" "))))
}

/// Without everything from each `start` to the next `end`.
fn cut(text: &str, start: &str, end: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(from) = rest.find(start) {
        let Some(to) = rest[from..].find(end) else { break };
        out += &rest[..from];
        rest = &rest[from + to + end.len()..];
    }
    out + rest
}

/// The character references that `escape` and most people write.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out += &rest[..at];
        rest = &rest[at..];
        let known = rest.find(';').filter(|end| *end <= 10).and_then(|end| {
            let name = &rest[1..end];
            let code = match name.strip_prefix('#') {
                Some(hex) if hex.starts_with(['x', 'X']) => u32::from_str_radix(&hex[1..], 16).ok(),
                Some(digits) => digits.parse().ok(),
                None => None,
            };
            let c = match name {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                "nbsp" => Some('\u{a0}'),
                _ => code.and_then(char::from_u32),
            };
            c.map(|c| (c, end + 1))
        });
        let (c, width) = known.unwrap_or(('&', 1));
        out.push(c);
        rest = &rest[width..];
    }
    out + rest
}

/// Jinja2's own title case: a word begins after a blank, a dash or an opening bracket.
pub(super) fn title(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let text = text(state, "title", args)?;
    let begins_after = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(begins_after) {
        let mut chars = piece.chars();
        if let Some(first) = chars.next() {
            out.extend(first.to_uppercase());
            out += &chars.as_str().to_lowercase();
        }
    }
    Ok(Value::from(out))
}

pub(super) fn truncate(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let names = ["s", "length", "killwords", "end", "leeway"];
    let [value, length, kill_words, end, leeway] = bind("truncate", args, names)?;
    let value = required("truncate", value)?;
    if value.is_undefined() {
        return Ok(value);
    }
    let is_safe = value.is_safe();
    let text = expect_str(&value, "what is truncated")?;
    let number = |value: Option<Value>, default: i128| match value.filter(|v| !v.is_none()) {
        Some(value) => expect_index(&value, "a length"),
        None => Ok(default),
    };
    let (length, leeway) = (number(length, 255)?, number(leeway, 5)?);
    let end = end.map_or(Ok("...".to_owned()), |end| to_text(state, &end))?;
    let end_length = end.chars().count() as i128;
    if length < end_length || leeway < 0 {
        return fail("a text is truncated to less than its end");
    }
    if text.chars().count() as i128 <= length + leeway {
        return Ok(value);
    }
    let kept = usize::try_from(length - end_length).unwrap_or(usize::MAX);
    let mut kept: String = text.chars().take(kept).collect();
    if let Some(at) = kept.rfind(' ').filter(|_| !kill_words.is_some_and(|kill| kill.is_true())) {
        kept.truncate(at);
    }
    Ok(if is_safe {
        Value::from_safe_string(kept + &operators::escape(&end))
    } else {
        Value::from(kept + &end)
    })
}

pub(super) fn url_encode(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("urlencode", args, ["value"])?;
    let value = required("urlencode", value)?;
    let quote = |value: &Value, form: bool| -> Result<String, Error> {
        let text = to_text(state, value)?;
        charge(state, text.len() * 3)?;
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                    out.push(char::from(byte));
                }
                b'/' if !form => out.push('/'),
                b' ' if form => out.push('+'),
                byte => out += &format!("%{byte:02X}"),
            }
        }
        Ok(out)
    };
    let entries = match kind(&value) {
        Kind::Dict => pairs(state, &value)?,
        Kind::Str | Kind::None | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => {
            return quote(&value, false).map(Value::from);
        }
        _ => {
            let pairs = iterate(state, &value)?.into_iter().map(|pair| {
                match iterate(state, &pair)?.as_slice() {
                    [key, value] => Ok((key.clone(), value.clone())),
                    _ => fail("urlencode takes pairs"),
                }
            });
            pairs.collect::<Result<_, _>>()?
        }
    };
    let encoded = entries
        .iter()
        .map(|(key, value)| Ok(format!("{}={}", quote(key, true)?, quote(value, true)?)));
    Ok(Value::from(encoded.collect::<Result<Vec<_>, Error>>()?.join("&")))
}

pub(super) fn word_count(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let text = text(state, "wordcount", args)?;
    let is_not_word = |c: char| !(c.is_alphanumeric() || c == '_');
    Ok(Value::from(text.split(is_not_word).filter(|word| !word.is_empty()).count()))
}

pub(super) fn xml_attributes(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, space] = bind("xmlattr", args, ["d", "autospace"])?;
    let value = required("xmlattr", value)?;
    if kind(&value) != Kind::Dict {
        return fail(format!("xmlattr is not for {}", type_name(&value)));
    }
    let mut out = Vec::new();
    for (key, value) in pairs(state, &value)? {
        if value.is_none() || value.is_undefined() {
            continue;
        }
        let key = expect_str(&key, "an attribute's name")?;
        if key.contains([' ', '\t', '\n', '\r', '\u{c}', '/', '>', '=']) {
            return fail("an attribute's name has a character that it can't have");
        }
        let text = to_text(state, &value)?;
        let text = if value.is_safe() { text } else { operators::escape(&text) };
        out.push(format!("{}=\"{text}\"", operators::escape(key)));
    }
    let spaced = space.is_none_or(|space| space.is_true()) && !out.is_empty();
    Ok(Value::from(format!("{}{}", if spaced { " " } else { "" }, out.join(" "))))
}
