//! Jinja2's filters of sequences and mappings. What Jinja2 makes lazily is made at once,
//! but is still a generator: true, and gone through once.

use std::cmp::Ordering;

use minijinja::{
    Error, State, Value,
    value::{Kwargs, from_args},
};

use super::{
    containers::dict_method,
    lookup::{get_attribute, get_item},
    operators::{add, equal, order},
    print::to_text,
    value::{
        Generator, Group, Kind, bind, expect_index, fail, generator, iterate, kind, length, pairs,
        required, tuple, type_name,
    },
};

type Answer = Result<Value, Error>;

fn is_true(value: Option<Value>) -> bool {
    value.is_some_and(|value| value.is_true())
}

/// Without case, if it is a string and case does not count.
fn folded(value: &Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
        _ => value.clone(),
    }
}

/// The item under a path of names and numbers, `a.0.b`.
fn path(state: &State, value: &Value, path: &Value, default: Option<&Value>) -> Answer {
    let Some(names) = path.as_str() else { return get_item(state, value, path) };
    let mut found = value.clone();
    for name in names.split('.') {
        let digits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
        let key = match name.parse::<u64>() {
            Ok(n) if digits => Value::from(n),
            _ => Value::from(name),
        };
        found = get_item(state, &found, &key)?;
        if let Some(default) = default.filter(|default| found.is_undefined() && !default.is_none())
        {
            found = default.clone();
        }
    }
    Ok(found)
}

/// What a value is compared by: itself, or one of its attributes.
fn key(state: &State, value: &Value, attribute: Option<&Value>, case_sensitive: bool) -> Answer {
    let key = match attribute.filter(|attribute| !attribute.is_none()) {
        Some(attribute) => path(state, value, attribute, None)?,
        None => value.clone(),
    };
    Ok(folded(&key, case_sensitive))
}

/// What a value is sorted by: itself, or a list of its attributes.
fn sort_key(
    state: &State,
    value: &Value,
    attribute: Option<&Value>,
    case_sensitive: bool,
) -> Answer {
    let names: Vec<Value> = match attribute.filter(|attribute| !attribute.is_none()) {
        None => return key(state, value, None, case_sensitive),
        Some(names) => match names.as_str() {
            Some(names) => names.split(',').map(Value::from).collect(),
            None => vec![names.clone()],
        },
    };
    let parts = names.iter().map(|name| key(state, value, Some(name), case_sensitive));
    parts.collect::<Result<Vec<_>, Error>>().map(Value::from)
}

/// By key; equal ones keep their order, also when it is reversed.
fn sort_pairs(
    state: &State,
    mut pairs: Vec<(Value, Value)>,
    reverse: bool,
) -> Result<Vec<(Value, Value)>, Error> {
    let mut failed = None;
    pairs.sort_by(|(a, _), (b, _)| {
        let (a, b) = if reverse { (b, a) } else { (a, b) };
        match failed {
            None => order(state, a, b).unwrap_or_else(|error| {
                failed = Some(error);
                Ordering::Equal
            }),
            Some(_) => Ordering::Equal,
        }
    });
    failed.map_or(Ok(pairs), Err)
}

pub(super) fn attr(_: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, name] = bind("attr", args, ["obj", "name"])?;
    let (value, name) = (required("attr", value)?, required("attr", name)?);
    match kind(&value) {
        // Only attributes: not what a mapping has under the name.
        Kind::Dict if !super::lookup::has_method(&value, name.as_str().unwrap_or_default()) => {
            Ok(Value::UNDEFINED)
        }
        _ => get_attribute(&value, name.as_str().unwrap_or_default()),
    }
}

pub(super) fn batch(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, count, fill] = bind("batch", args, ["value", "linecount", "fill_with"])?;
    let count = expect_index(&required("batch", count)?, "a number of items")?;
    let items = iterate(state, &required("batch", value)?)?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0).unwrap_or(usize::MAX);
    let mut rows: Vec<Vec<Value>> = items.chunks(count).map(<[Value]>::to_vec).collect();
    if let (Some(last), Some(fill)) = (rows.last_mut(), fill.filter(|fill| !fill.is_none())) {
        state.consume_fuel((count.min(usize::MAX >> 8) as u64) / 2)?;
        last.resize(count, fill);
    }
    Ok(generator(rows.into_iter().map(Value::from).collect()))
}

pub(super) fn default(_: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, default, boolean] = bind("default", args, ["value", "default_value", "boolean"])?;
    let value = required("default", value)?;
    if value.is_undefined() || (is_true(boolean) && !value.is_true()) {
        return Ok(default.unwrap_or_else(|| Value::from("")));
    }
    Ok(value)
}

pub(super) fn dictsort(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let names = ["value", "case_sensitive", "by", "reverse"];
    let [value, case_sensitive, by, reverse] = bind("dictsort", args, names)?;
    let value = required("dictsort", value)?;
    if kind(&value) != Kind::Dict {
        return fail(format!("dictsort is not for {}", type_name(&value)));
    }
    let by_value = match by.as_ref().map_or(Some("key"), Value::as_str) {
        Some("key") => false,
        Some("value") => true,
        _ => return fail("dictsort is by key or by value"),
    };
    let case_sensitive = is_true(case_sensitive);
    let keyed = pairs(state, &value)?.into_iter().map(|(key, item)| {
        let by = folded(if by_value { &item } else { &key }, case_sensitive);
        (by, tuple(vec![key, item]))
    });
    let sorted = sort_pairs(state, keyed.collect(), is_true(reverse))?;
    Ok(sorted.into_iter().map(|(_, pair)| pair).collect())
}

pub(super) fn first(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("first", args, ["seq"])?;
    let value = required("first", value)?;
    if let Some(generator) = value.downcast_object_ref::<Generator>() {
        return Ok(generator.rest().pop_front().unwrap_or_default());
    }
    Ok(iterate(state, &value)?.into_iter().next().unwrap_or_default())
}

pub(super) fn last(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("last", args, ["seq"])?;
    let value = required("last", value)?;
    if kind(&value) == Kind::Generator {
        return fail(format!("last is not for {}", type_name(&value)));
    }
    Ok(iterate(state, &value)?.pop().unwrap_or_default())
}

pub(super) fn groupby(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let names = ["value", "attribute", "default", "case_sensitive"];
    let [value, attribute, default, case_sensitive] = bind("groupby", args, names)?;
    let (value, attribute) = (required("groupby", value)?, required("groupby", attribute)?);
    let case_sensitive = is_true(case_sensitive);
    let mut keyed = Vec::new();
    for item in iterate(state, &value)? {
        let key = path(state, &item, &attribute, default.as_ref())?;
        keyed.push((folded(&key, case_sensitive), tuple(vec![key, item])));
    }
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (by, pair) in sort_pairs(state, keyed, false)? {
        let (key, item) = (pair.get_item_by_index(0)?, pair.get_item_by_index(1)?);
        match groups.last_mut() {
            Some((last, _, list)) if equal(state, last, &by)? => list.push(item),
            _ => groups.push((by, key, vec![item])),
        }
    }
    let groups = groups.into_iter();
    Ok(groups
        .map(|(_, grouper, list)| Value::from_object(Group { grouper, list: Value::from(list) }))
        .collect())
}

pub(super) fn items(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("items", args, ["value"])?;
    let value = required("items", value)?;
    match kind(&value) {
        Kind::Undefined => Ok(generator(Vec::new())),
        Kind::Dict => Ok(generator(iterate(state, &dict_method(state, &value, "items", &[])?)?)),
        _ => fail(format!("items is not for {}", type_name(&value))),
    }
}

pub(super) fn join(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, separator, attribute] = bind("join", args, ["value", "d", "attribute"])?;
    let separator = separator.map_or(Ok(String::new()), |value| to_text(state, &value))?;
    let attribute = attribute.filter(|attribute| !attribute.is_none());
    let mut out = super::print::Text::new(state);
    for (i, item) in iterate(state, &required("join", value)?)?.iter().enumerate() {
        if i > 0 {
            out.push(&separator)?;
        }
        let item = match &attribute {
            Some(attribute) => path(state, item, attribute, None)?,
            None => item.clone(),
        };
        out.push(&to_text(state, &item)?)?;
    }
    Ok(Value::from(out.finish()))
}

pub(super) fn count(_: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("length", args, ["obj"])?;
    length(&required("length", value)?).map(Value::from)
}

pub(super) fn list(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("list", args, ["value"])?;
    iterate(state, &required("list", value)?).map(Value::from)
}

pub(super) fn map(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let (given, named): (&[Value], Kwargs) = from_args(args)?;
    let Some((value, rest)) = given.split_first() else { return fail("map lacks a value") };
    // Also what can't be gone through, if it is false.
    if !value.is_true() {
        return Ok(generator(Vec::new()));
    }
    let mut mapped = Vec::new();
    match rest.split_first() {
        Some((name, filter_args)) => {
            let Some(name) = name.as_str() else { return fail("map takes a filter's name") };
            for item in iterate(state, value)? {
                let mut all = vec![item];
                all.extend_from_slice(filter_args);
                if named.args().next().is_some() {
                    all.push(Value::from(named.clone()));
                }
                mapped.push(state.apply_filter(name, &all)?);
            }
        }
        None => {
            let [attribute, default] = bind("map", &args[1..], ["attribute", "default"])?;
            let attribute = required("map", attribute)?;
            for item in iterate(state, value)? {
                mapped.push(path(state, &item, &attribute, default.as_ref())?);
            }
        }
    }
    Ok(generator(mapped))
}

pub(super) fn max(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    extreme(state, args, Ordering::Greater)
}

pub(super) fn min(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    extreme(state, args, Ordering::Less)
}

fn extreme(state: &State, args: &[Value], wanted: Ordering) -> Answer {
    let names = ["value", "case_sensitive", "attribute"];
    let [value, case_sensitive, attribute] = bind("max", args, names)?;
    let case_sensitive = is_true(case_sensitive);
    let mut best: Option<(Value, Value)> = None;
    for item in iterate(state, &required("max", value)?)? {
        let key = key(state, &item, attribute.as_ref(), case_sensitive)?;
        let better = match &best {
            Some((than, _)) => order(state, &key, than)? == wanted,
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map(|(_, item)| item).unwrap_or_default())
}

/// `select`, `reject`, `selectattr` and `rejectattr`.
pub(super) fn select(
    state: &mut State<'_, '_>,
    args: &[Value],
    keep: bool,
    by_attribute: bool,
) -> Answer {
    let Some((value, mut rest)) = args.split_first() else { return fail("select lacks a value") };
    let attribute = match rest.split_first() {
        Some((attribute, others)) if by_attribute => {
            rest = others;
            Some(attribute)
        }
        None if by_attribute => return fail("selectattr lacks an attribute"),
        _ => None,
    };
    let mut kept = Vec::new();
    let items = if value.is_true() { iterate(state, value)? } else { Vec::new() };
    for item in items {
        let subject = match attribute {
            Some(attribute) => path(state, &item, attribute, None)?,
            None => item.clone(),
        };
        let holds = match rest.split_first() {
            Some((test, test_args)) => {
                let Some(test) = test.as_str() else { return fail("select takes a test's name") };
                let mut all = vec![subject];
                all.extend_from_slice(test_args);
                state.perform_test(test, &all)?
            }
            None => subject.is_true(),
        };
        if holds == keep {
            kept.push(item);
        }
    }
    Ok(generator(kept))
}

pub(super) fn reverse(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value] = bind("reverse", args, ["value"])?;
    let value = required("reverse", value)?;
    if let Some(text) = value.as_str() {
        return Ok(Value::from(text.chars().rev().collect::<String>()));
    }
    let mut items = iterate(state, &value)?;
    items.reverse();
    Ok(if kind(&value) == Kind::Generator { Value::from(items) } else { generator(items) })
}

pub(super) fn slice(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, slices, fill] = bind("slice", args, ["value", "slices", "fill_with"])?;
    let items = iterate(state, &required("slice", value)?)?;
    let slices = expect_index(&required("slice", slices)?, "a number of slices")?;
    let Some(slices) = usize::try_from(slices).ok().filter(|slices| *slices > 0) else {
        return fail("slice makes one slice or more");
    };
    state.consume_fuel(slices as u64)?;
    let (each, longer) = (items.len() / slices, items.len() % slices);
    let mut rest = items.into_iter();
    let mut out = Vec::new();
    for place in 0..slices {
        let size = each + usize::from(place < longer);
        let mut part: Vec<Value> = rest.by_ref().take(size).collect();
        if let Some(fill) = fill.as_ref().filter(|fill| !fill.is_none() && place >= longer) {
            part.push(fill.clone());
        }
        out.push(Value::from(part));
    }
    Ok(generator(out))
}

pub(super) fn sort(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let names = ["value", "reverse", "case_sensitive", "attribute"];
    let [value, reverse, case_sensitive, attribute] = bind("sort", args, names)?;
    let case_sensitive = is_true(case_sensitive);
    let mut keyed = Vec::new();
    for item in iterate(state, &required("sort", value)?)? {
        keyed.push((sort_key(state, &item, attribute.as_ref(), case_sensitive)?, item));
    }
    let sorted = sort_pairs(state, keyed, is_true(reverse))?;
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn sum(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let [value, attribute, start] = bind("sum", args, ["iterable", "attribute", "start"])?;
    let mut total = start.unwrap_or_else(|| Value::from(0));
    if total.as_str().is_some() {
        return fail("sum is not for strings");
    }
    for item in iterate(state, &required("sum", value)?)? {
        let item = match attribute.as_ref().filter(|attribute| !attribute.is_none()) {
            Some(attribute) => path(state, &item, attribute, None)?,
            None => item,
        };
        total = add(state, &total, &item)?;
    }
    Ok(total)
}

pub(super) fn unique(state: &mut State<'_, '_>, args: &[Value]) -> Answer {
    let names = ["value", "case_sensitive", "attribute"];
    let [value, case_sensitive, attribute] = bind("unique", args, names)?;
    let case_sensitive = is_true(case_sensitive);
    let mut seen: Vec<Value> = Vec::new();
    let mut kept = Vec::new();
    'items: for item in iterate(state, &required("unique", value)?)? {
        let key = key(state, &item, attribute.as_ref(), case_sensitive)?;
        for other in &seen {
            if equal(state, other, &key)? {
                continue 'items;
            }
        }
        seen.push(key);
        kept.push(item);
    }
    Ok(generator(kept))
}
