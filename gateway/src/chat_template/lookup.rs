//! Attributes, items, slices and calls, as Jinja2's immutable sandbox answers them.

use std::{fmt, sync::Arc};

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, Object, ObjectRepr, from_args},
};

use super::{
    containers,
    globals::Cycler,
    operators,
    rewrite::{KWARGS, VARARGS},
    strings,
    value::{
        DEPTH_MAX, Generator, Group, Kind, Range, fail, index, is_namespace, iterate, kind, length,
        tuple, type_name,
    },
};

/// Methods that would change a value: the sandbox has them undefined.
const CHANGING: [&str; 13] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
    "add",
    "discard",
];

pub(super) fn has_method(value: &Value, name: &str) -> bool {
    match kind(value) {
        Kind::Str => strings::METHODS.contains(&name),
        Kind::List => containers::LIST_METHODS.contains(&name),
        Kind::Tuple | Kind::Range => containers::TUPLE_METHODS.contains(&name),
        Kind::Dict => containers::DICT_METHODS.contains(&name),
        Kind::Float(_) => name == "is_integer",
        _ => false,
    }
}

fn changes(value: &Value, name: &str) -> bool {
    match kind(value) {
        Kind::List => CHANGING.contains(&name) && !matches!(name, "update" | "setdefault"),
        Kind::Dict => matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update"),
        _ => false,
    }
}

/// `value.name`: a method of its type before what a mapping has under the name.
pub(super) fn get_attribute(value: &Value, name: &str) -> Result<Value, Error> {
    if has_method(value, name) {
        return Ok(Value::from_object(Method { value: value.clone(), name: name.to_owned() }));
    }
    if changes(value, name) {
        return Ok(Value::UNDEFINED);
    }
    match kind(value) {
        Kind::Undefined => fail(format!("'{name}' is looked up in something undefined")),
        Kind::Dict => Ok(operators::lookup(value, &Value::from(name))?.unwrap_or_default()),
        Kind::Tuple => Ok(match (value.downcast_object_ref::<Group>(), name) {
            (Some(group), "grouper") => group.grouper.clone(),
            (Some(group), "list") => group.list.clone(),
            _ => Value::UNDEFINED,
        }),
        Kind::Other => value.get_attr(name),
        _ => Ok(Value::UNDEFINED),
    }
}

/// `value[key]`: what a mapping has under the key before a method.
pub(super) fn get_item(state: &State, value: &Value, key: &Value) -> Result<Value, Error> {
    let found = match kind(value) {
        Kind::Undefined => return fail("an item is looked up in something undefined"),
        Kind::Dict if matches!(kind(key), Kind::List | Kind::Dict) => None,
        Kind::Dict => operators::lookup(value, key)?,
        Kind::Str | Kind::List | Kind::Tuple | Kind::Range => match index(key) {
            Some(n) => at(state, value, n)?,
            None => None,
        },
        _ => None,
    };
    match (found, key.as_str()) {
        (Some(found), _) => Ok(found),
        (None, Some(name)) if kind(value) != Kind::Dict => get_attribute(value, name),
        (None, Some(name)) if has_method(value, name) => get_attribute(value, name),
        _ => Ok(Value::UNDEFINED),
    }
}

/// The item at a place, which counts from the end when it is negative.
fn at(state: &State, value: &Value, place: i128) -> Result<Option<Value>, Error> {
    let place = if place < 0 { place + length(value)? as i128 } else { place };
    let Ok(place) = usize::try_from(place) else { return Ok(None) };
    match kind(value) {
        Kind::Str => {
            let text = value.as_str().unwrap_or_default();
            state.consume_fuel(text.len() as u64 / 64)?;
            Ok(text.chars().nth(place).map(Value::from))
        }
        Kind::Range => {
            let range = value.downcast_object_ref::<Range>();
            Ok(range.and_then(|range| range.items().nth(place)).map(Value::from))
        }
        _ if place < length(value)? => value.get_item_by_index(place).map(Some),
        _ => Ok(None),
    }
}

/// `value[start:stop:step]`.
pub(super) fn slice(state: &State, args: &[Value]) -> Result<Value, Error> {
    let [value, bounds @ ..] = args else { return fail("a slice lacks a value") };
    let what = kind(value);
    if !matches!(what, Kind::Str | Kind::List | Kind::Tuple | Kind::Range) {
        return fail(format!("there are no slices of {}", type_name(value)));
    }
    let mut whole = [None; 3];
    for (whole, bound) in whole.iter_mut().zip(bounds) {
        *whole = index(bound);
        if whole.is_none() && !bound.is_none() {
            return fail(format!("a slice has whole numbers, not {}", type_name(bound)));
        }
    }
    let [start, stop, step] = whole;
    let step = step.unwrap_or(1);
    if step == 0 {
        return fail("a slice has steps of zero");
    }
    let items = iterate(state, value)?;
    let length = items.len() as i128;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |bound: i128| {
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        bound.clamp(lowest, highest)
    };
    let first = start.map_or(if step > 0 { lowest } else { highest }, clamp);
    let last = stop.map_or(if step > 0 { highest } else { lowest }, clamp);
    if let Some(range) = value.downcast_object_ref::<Range>() {
        return Ok(Value::from_object(range.slice(first, last, step)));
    }
    let mut taken = Vec::new();
    let mut place = first;
    while if step > 0 { place < last } else { place > last } {
        taken.extend(usize::try_from(place).ok().and_then(|place| items.get(place)).cloned());
        place = place.saturating_add(step);
    }
    Ok(match what {
        Kind::Str => {
            let text = Value::from(taken.iter().filter_map(Value::as_str).collect::<String>());
            if value.is_safe() { strings::marked(&text) } else { text }
        }
        Kind::Tuple => tuple(taken),
        _ => Value::from(taken),
    })
}

/// `value.name(args)`.
pub(super) fn call_method(state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let [value, name, args @ ..] = args else { return fail("a call lacks a method") };
    let name = name.as_str().unwrap_or_default();
    if has_method(value, name) {
        return method(state, value, name, args);
    }
    if kind(value) == Kind::Other && !is_namespace(value) {
        match value.call_method(state, name, args) {
            Err(error) if error.kind() == ErrorKind::UnknownMethod => {}
            answered => return answered,
        }
    }
    let callee = get_attribute(value, name)?;
    if callee.is_undefined() {
        return fail(format!("{} has no method {name}", type_name(value)));
    }
    call(state, &callee, args)
}

fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match kind(value) {
        Kind::Str => strings::method(state, value, name, args),
        Kind::Float(x) => Ok(Value::from(x.is_finite() && x.fract() == 0.0)),
        Kind::Dict => containers::dict_method(state, value, name, args),
        _ => containers::list_method(state, value, name, args),
    }
}

/// `callee(args)`. A macro that mentions `varargs` or `kwargs` gets in them what is beyond its
/// parameters.
pub(super) fn call(
    state: &mut State<'_, '_>,
    callee: &Value,
    args: &[Value],
) -> Result<Value, Error> {
    if callee.is_undefined() {
        return fail("something undefined is called");
    }
    let parameters = match callee.as_object() {
        Some(object) if object.type_name().ends_with("::Macro") => callee.get_attr("arguments")?,
        _ => return callee.call(state, args),
    };
    let parameters: Vec<Value> = parameters.try_iter()?.collect();
    let takes = |name: &str| parameters.iter().any(|p| p.as_str() == Some(name));
    let (takes_varargs, takes_kwargs) = (takes(VARARGS), takes(KWARGS));
    if !takes_varargs && !takes_kwargs {
        return callee.call(state, args);
    }
    let own = parameters.len() - usize::from(takes_varargs) - usize::from(takes_kwargs);
    let (given, named): (&[Value], Kwargs) = from_args(args)?;
    let (mut passed, mut beyond) = (Vec::new(), Vec::new());
    for name in named.args() {
        let pair = (name.to_owned(), named.peek::<Value>(name)?);
        let known = parameters[..own].iter().any(|p| p.as_str() == Some(name));
        if known || name == "caller" || !takes_kwargs { &mut passed } else { &mut beyond }
            .push(pair);
    }
    if takes_varargs {
        let rest = given.get(own..).unwrap_or_default();
        passed.push((VARARGS.to_owned(), tuple(rest.to_vec())));
    } else if given.len() > own {
        return fail(format!("the macro takes at most {own} arguments"));
    }
    if takes_kwargs {
        passed.push((KWARGS.to_owned(), Value::from_pairs(beyond)));
    }
    let mut all = given[..given.len().min(own)].to_vec();
    all.push(Value::from(Kwargs::from_iter(passed)));
    callee.call(state, &all)
}

/// Refuses a value that is nested deeper than the stack allows it to be printed, or to be dropped.
pub(super) fn check_nesting(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return fail("a value is nested too deep");
    }
    state.consume_fuel(1)?;
    let all = |items: &mut dyn Iterator<Item = Value>| {
        for item in items.filter(|item| item.as_object().is_some()) {
            check_nesting(state, &item, depth + 1)?;
        }
        Ok(())
    };
    if let Some(method) = value.downcast_object_ref::<Method>() {
        return check_nesting(state, &method.value, depth + 1);
    }
    if let Some(generator) = value.downcast_object_ref::<Generator>() {
        let items: Vec<Value> = generator.rest().iter().cloned().collect();
        return all(&mut items.into_iter());
    }
    if let Some(cycler) = value.downcast_object_ref::<Cycler>() {
        return all(&mut cycler.items.iter().cloned());
    }
    match value.as_object() {
        Some(object) if kind(value) == Kind::Dict || is_namespace(value) => {
            let pairs = object.try_iter_pairs().into_iter().flatten();
            all(&mut pairs.flat_map(|(key, item)| [key, item]))
        }
        Some(object) => all(&mut object.try_iter().into_iter().flatten()),
        None => Ok(()),
    }
}

/// `value is callable`.
pub(super) fn is_callable(value: &Value) -> bool {
    match kind(value) {
        // Python's class of undefined values has a `__call__`, which raises.
        Kind::Undefined => true,
        Kind::Other => !is_namespace(value) && value.downcast_object_ref::<Cycler>().is_none(),
        _ => false,
    }
}

/// A method that is looked up without being called.
struct Method {
    value: Value,
    name: String,
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<method {} of {}>", self.name, type_name(&self.value))
    }
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        method(state, &self.value, &self.name, args)
    }
}
