//! Methods of strings.

use minijinja::{Error, ErrorKind, State, Value, value::Kwargs};

use super::{
    characters::{capitalize, casefold, is_cased, is_digit, is_space, is_title, swap_case, title},
    containers::clamp,
    format::braces,
    operators::{escape, lookup},
    pieces::{lines, split_at, split_blank, strip},
    sizes::{expand_tabs, justify, replace},
    value::{
        Kind, bind, charge, expect_index, expect_str, fail, iterate, kind, pairs, required, tuple,
        type_name,
    },
};

pub(super) const METHODS: [&str; 46] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

/// A method of a string. What is made of a text that is safe for HTML is so too.
pub(super) fn method(
    state: &State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let answer = plain_method(state, value, name, args)?;
    if !value.is_safe() {
        return Ok(answer);
    }
    Ok(match kind(&answer) {
        Kind::List => iterate(state, &answer)?.iter().map(marked).collect(),
        Kind::Tuple => tuple(iterate(state, &answer)?.iter().map(marked).collect()),
        _ => marked(&answer),
    })
}

/// A string as one that is safe for HTML; other values as they are.
pub(super) fn marked(value: &Value) -> Value {
    match value.as_str() {
        Some(text) => Value::from_safe_string(text.to_owned()),
        None => value.clone(),
    }
}

fn plain_method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    charge(state, text.len())?;
    match name {
        "format" => return braces(state, text, args).map(Value::from),
        "format_map" => {
            let [values] = bind(name, args, ["mapping"])?;
            let mut named = Vec::new();
            for (key, value) in pairs(state, &required(name, values)?)? {
                named.push((expect_str(&key, "a name")?.to_owned(), value));
            }
            let named = Value::from(Kwargs::from_iter(named));
            return braces(state, text, &[named]).map(Value::from);
        }
        "count" | "find" | "index" | "rfind" | "rindex" => return search(text, name, args),
        "startswith" | "endswith" => return affix(state, text, name, args),
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = bind(name, args, ["chars"])?;
            return Ok(Value::from(strip(text, name, chars)?));
        }
        "split" | "rsplit" => {
            let [separator, limit] = bind(name, args, ["sep", "maxsplit"])?;
            let limit = limit.map_or(Ok(-1), |limit| expect_index(&limit, "maxsplit"))?;
            let limit = usize::try_from(limit).ok();
            let pieces = match separator.filter(|separator| !separator.is_none()) {
                Some(separator) => {
                    let separator = expect_str(&separator, "a separator")?;
                    split_at(text, separator, limit, name == "rsplit")?
                }
                None => split_blank(text, limit, name == "rsplit"),
            };
            state.consume_fuel(pieces.len() as u64)?;
            return Ok(pieces.into_iter().map(Value::from).collect());
        }
        "splitlines" => {
            let [keep] = bind(name, args, ["keepends"])?;
            let lines = lines(text, keep.is_some_and(|keep| keep.is_true()));
            state.consume_fuel(lines.len() as u64)?;
            return Ok(lines.into_iter().map(Value::from).collect());
        }
        "join" => {
            let [items] = bind(name, args, ["iterable"])?;
            let mut joined = String::new();
            for (i, item) in iterate(state, &required(name, items)?)?.iter().enumerate() {
                let unsafe_item = value.is_safe() && !item.is_safe();
                let item = expect_str(item, "what is joined")?;
                let item = if unsafe_item { &escape(item) } else { item };
                let separator = if i > 0 { text } else { "" };
                charge(state, separator.len() + item.len())?;
                joined += separator;
                joined += item;
            }
            return Ok(Value::from(joined));
        }
        "partition" | "rpartition" => {
            let [separator] = bind(name, args, ["sep"])?;
            let separator = required(name, separator)?;
            let separator = expect_str(&separator, "a separator")?;
            if separator.is_empty() {
                return fail("a separator is empty");
            }
            let forward = name == "partition";
            let parts = match if forward { text.find(separator) } else { text.rfind(separator) } {
                Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
                None if forward => [text, "", ""],
                None => ["", "", text],
            };
            return Ok(tuple(parts.map(Value::from).into()));
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = bind(name, args, ["affix"])?;
            let affix = required(name, affix)?;
            let affix = expect_str(&affix, "what is removed")?;
            let rest = match name {
                "removeprefix" => text.strip_prefix(affix),
                _ => text.strip_suffix(affix),
            };
            return Ok(Value::from(rest.unwrap_or(text)));
        }
        "replace" => {
            let [old, new, count] = bind(name, args, ["old", "new", "count"])?;
            let (old, new) = (required(name, old)?, required(name, new)?);
            let (old, new) = (expect_str(&old, "old")?, expect_str(&new, "new")?);
            let escaped =
                (value.is_safe() && !args.iter().skip(1).any(Value::is_safe)).then(|| escape(new));
            let new = escaped.as_deref().unwrap_or(new);
            let count = count.map_or(Ok(-1), |count| expect_index(&count, "a count"))?;
            return replace(state, text, old, new, count).map(Value::from);
        }
        "center" | "ljust" | "rjust" | "zfill" => return justify(state, text, name, args),
        "expandtabs" => {
            let [size] = bind(name, args, ["tabsize"])?;
            let size = size.map_or(Ok(8), |size| expect_index(&size, "tabsize"))?;
            return expand_tabs(state, text, usize::try_from(size).unwrap_or(0)).map(Value::from);
        }
        "translate" => {
            let [table] = bind(name, args, ["table"])?;
            return translate(text, &required(name, table)?);
        }
        "maketrans" => return make_table(state, args),
        _ => {}
    }
    let [] = bind(name, args, [])?;
    Ok(match name {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "capitalize" => Value::from(capitalize(text)),
        "casefold" => Value::from(casefold(text)),
        "title" => Value::from(title(text)),
        "swapcase" => Value::from(swap_case(text)),
        "isascii" => Value::from(text.is_ascii()),
        "isprintable" => Value::from(text.chars().all(super::print::is_printable)),
        "islower" => Value::from(is_cased(text, char::is_lowercase, char::is_uppercase)),
        "isupper" => Value::from(is_cased(text, char::is_uppercase, char::is_lowercase)),
        "istitle" => Value::from(is_title(text)),
        "isidentifier" => {
            let mut chars = text.chars();
            let starts = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
            Value::from(starts && chars.all(|c| c == '_' || c.is_alphanumeric()))
        }
        _ => {
            let is = match name {
                "isspace" => is_space,
                "isalpha" => char::is_alphabetic,
                "isalnum" => char::is_alphanumeric,
                "isnumeric" => char::is_numeric,
                "isdecimal" => |c| is_digit(c, false),
                "isdigit" => |c| is_digit(c, true),
                _ => return Err(Error::from(ErrorKind::UnknownMethod)),
            };
            Value::from(!text.is_empty() && text.chars().all(is))
        }
    })
}

/// `count`, `find`, `index` and their like from the right, in characters.
fn search(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let [what, start, stop] = bind(name, args, ["sub", "start", "end"])?;
    let what = required(name, what)?;
    let what = expect_str(&what, "what is searched for")?;
    let length = text.chars().count();
    let bound = |bound: Option<Value>, missing: usize| match bound.filter(|b| !b.is_none()) {
        Some(bound) => Ok(clamp(expect_index(&bound, "a place in a string")?, length)),
        None => Ok::<_, Error>(missing),
    };
    let (start, stop) = (bound(start, 0)?, bound(stop, length)?);
    let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
    let (from, to) = (byte(start), byte(stop));
    let part = if from <= to { &text[from..to] } else { "" };
    let (what_fits, found) = (
        from <= to,
        match name {
            "rfind" | "rindex" => part.rfind(what),
            _ => part.find(what),
        },
    );
    if name == "count" {
        return Ok(Value::from(match what {
            "" if what_fits => part.chars().count() + 1,
            "" => 0,
            what => part.matches(what).count(),
        }));
    }
    match found.filter(|_| what_fits) {
        Some(at) => Ok(Value::from(start + part[..at].chars().count())),
        None if name.ends_with("index") => fail("a piece is not in the string"),
        None => Ok(Value::from(-1)),
    }
}

fn affix(state: &State, text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let [affix, start, stop] = bind(name, args, ["affix", "start", "end"])?;
    let affix = required(name, affix)?;
    let length = text.chars().count();
    let place = |bound: Option<Value>, missing: usize| match bound.filter(|b| !b.is_none()) {
        Some(bound) => Ok(clamp(expect_index(&bound, "a place in a string")?, length)),
        None => Ok::<_, Error>(missing),
    };
    let (start, stop) = (place(start, 0)?, place(stop, length)?);
    let part: String = text.chars().take(stop).skip(start).collect();
    let affixes = match kind(&affix) {
        Kind::Str => vec![affix],
        Kind::Tuple => iterate(state, &affix)?,
        _ => return fail(format!("{name} takes a string or a tuple, not {}", type_name(&affix))),
    };
    for affix in &affixes {
        let affix = expect_str(affix, "an affix")?;
        let starts =
            if name == "startswith" { part.starts_with(affix) } else { part.ends_with(affix) };
        if starts && start <= stop {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

/// By a table of code points, to code points, strings or nothing.
fn translate(text: &str, table: &Value) -> Result<Value, Error> {
    let mut out = String::new();
    for c in text.chars() {
        match lookup(table, &Value::from(u32::from(c)))? {
            None => out.push(c),
            Some(to) => match kind(&to) {
                Kind::None => {}
                Kind::Str => out += to.as_str().unwrap_or_default(),
                Kind::Int(n) => match u32::try_from(n).ok().and_then(char::from_u32) {
                    Some(c) => out.push(c),
                    None => return fail("a code point is no character"),
                },
                _ => return fail("a character becomes a string, a code point or none"),
            },
        }
    }
    Ok(Value::from(out))
}

/// A table for `translate`: of a mapping, or of characters and what they become.
fn make_table(state: &State, args: &[Value]) -> Result<Value, Error> {
    let [from, to, gone] = bind("maketrans", args, ["from", "to", "removed"])?;
    let from = required("maketrans", from)?;
    let code = |key: &Value| match key.as_str().map(|text| (text.chars().next(), text)) {
        Some((Some(c), text)) if text.len() == c.len_utf8() => Ok(Value::from(u32::from(c))),
        Some(_) => fail("a key of a table is one character"),
        None => Ok(key.clone()),
    };
    let mut table = Vec::new();
    match to {
        None => {
            for (key, to) in pairs(state, &from)? {
                table.push((code(&key)?, to));
            }
        }
        Some(to) => {
            let (from, to) = (iterate(state, &from)?, iterate(state, &to)?);
            if from.len() != to.len() {
                return fail("a table's two strings have the same length");
            }
            for (from, to) in from.iter().zip(&to) {
                table.push((code(from)?, code(to)?));
            }
        }
    }
    for c in gone.map_or(Ok(Vec::new()), |gone| iterate(state, &gone))? {
        table.push((code(&c)?, Value::from(())));
    }
    Ok(Value::from_pairs(table))
}
