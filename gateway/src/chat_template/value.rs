//! The engine's values as Python's types, and the types the engine does not have.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Enumerator, Kwargs, Object, ObjectRepr, Tuple, ValueKind, from_args},
};

/// Deepest nesting of lists and mappings that is printed or compared.
pub(super) const DEPTH_MAX: usize = 200;

/// The Python type of a value.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str,
    List,
    Tuple,
    Range,
    /// `dict_keys`, `dict_values` or `dict_items`.
    View,
    /// Something that can be gone through once.
    Generator,
    Dict,
    /// A namespace, a loop, a macro, a function.
    Other,
}

pub(super) fn kind(value: &Value) -> Kind {
    match value.kind() {
        ValueKind::Undefined => Kind::Undefined,
        ValueKind::None => Kind::None,
        ValueKind::Bool => Kind::Bool(value.is_true()),
        ValueKind::Number => match i128::try_from(value.clone()) {
            Ok(n) if value.is_integer() => Kind::Int(n),
            _ => Kind::Float(f64::try_from(value.clone()).unwrap_or(f64::NAN)),
        },
        ValueKind::String => Kind::Str,
        ValueKind::Seq if value.is_tuple() || is::<Group>(value) => Kind::Tuple,
        ValueKind::Seq | ValueKind::Iterable => Kind::List,
        ValueKind::Map if !is_engine_object(value) => Kind::Dict,
        _ if is::<Range>(value) => Kind::Range,
        _ if is::<View>(value) => Kind::View,
        _ if is::<Generator>(value) => Kind::Generator,
        _ => Kind::Other,
    }
}

/// The engine shows its own objects as mappings, which they are not in Python.
fn is_engine_object(value: &Value) -> bool {
    let name = value.as_object().map_or("", |object| object.type_name());
    ["::Namespace", "::Loop", "::Macro", "::Module"].iter().any(|own| name.ends_with(own))
}

pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

fn is<T: 'static>(value: &Value) -> bool {
    value.downcast_object_ref::<T>().is_some()
}

/// The name of a value's type in Python, for errors.
pub(super) fn type_name(value: &Value) -> &'static str {
    match kind(value) {
        Kind::Undefined => "undefined",
        Kind::None => "None",
        Kind::Bool(_) => "bool",
        Kind::Int(_) => "int",
        Kind::Float(_) => "float",
        Kind::Str => "str",
        Kind::List => "list",
        Kind::Tuple => "tuple",
        Kind::Range => "range",
        Kind::View => "a view of a dict",
        Kind::Generator => "generator",
        Kind::Dict => "dict",
        Kind::Other => "object",
    }
}

pub(super) fn fail<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.into()))
}

/// Pays for bytes that are about to be read or made, before they are.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / 64)
}

/// A whole number, as `operator.index` takes one.
pub(super) fn index(value: &Value) -> Option<i128> {
    match kind(value) {
        Kind::Int(n) => Some(n),
        Kind::Bool(b) => Some(b.into()),
        _ => None,
    }
}

/// A number, if the value is one.
pub(super) fn number(value: &Value) -> Option<f64> {
    match kind(value) {
        Kind::Float(x) => Some(x),
        _ => index(value).map(|n| n as f64),
    }
}

pub(super) fn expect_index(value: &Value, what: &str) -> Result<i128, Error> {
    index(value)
        .map_or_else(|| fail(format!("{what} is a whole number, not {}", type_name(value))), Ok)
}

pub(super) fn expect_str<'a>(value: &'a Value, what: &str) -> Result<&'a str, Error> {
    value.as_str().map_or_else(|| fail(format!("{what} is a string, not {}", type_name(value))), Ok)
}

/// Everything that a loop over the value sees; each item is paid for.
pub(super) fn iterate(state: &State, value: &Value) -> Result<Vec<Value>, Error> {
    let items = match kind(value) {
        Kind::Undefined => Vec::new(),
        Kind::Str => {
            let text = value.as_str().unwrap_or_default();
            state.consume_fuel(text.len() as u64)?;
            text.chars().map(Value::from).collect()
        }
        Kind::List | Kind::Tuple | Kind::Dict => {
            state.consume_fuel(value.len().unwrap_or_default() as u64 / 2)?;
            value.try_iter()?.checked().collect::<Result<_, _>>()?
        }
        Kind::Range | Kind::View | Kind::Generator => {
            if let Some(range) = value.downcast_object_ref::<Range>() {
                range.items().map(Value::from).collect()
            } else if let Some(view) = value.downcast_object_ref::<View>() {
                view.items.clone()
            } else if let Some(generator) = value.downcast_object_ref::<Generator>() {
                generator.rest().drain(..).collect()
            } else {
                Vec::new()
            }
        }
        _ => return fail(format!("'{}' is not iterable", type_name(value))),
    };
    state.consume_fuel(items.len() as u64 / 2)?;
    Ok(items)
}

/// The pairs of a mapping, in its order.
pub(super) fn pairs(state: &State, value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let keys = iterate(state, value)?;
    keys.into_iter().map(|key| value.get_item(&key).map(|item| (key, item))).collect()
}

/// `len(value)`.
pub(super) fn length(value: &Value) -> Result<usize, Error> {
    match kind(value) {
        Kind::Undefined => Ok(0),
        Kind::Str => Ok(value.as_str().unwrap_or_default().chars().count()),
        Kind::List | Kind::Tuple | Kind::Dict => Ok(value.len().unwrap_or_default()),
        Kind::Range => Ok(value.downcast_object_ref::<Range>().map_or(0, Range::len)),
        Kind::View => Ok(value.downcast_object_ref::<View>().map_or(0, |view| view.items.len())),
        _ => fail(format!("'{}' has no length", type_name(value))),
    }
}

/// A generator over items that are made already.
pub(super) fn generator(items: Vec<Value>) -> Value {
    Value::from_object(Generator(Mutex::new(items.into())))
}

pub(super) fn tuple(items: Vec<Value>) -> Value {
    Value::from(Tuple::from(items))
}

/// A Python iterator: true even when it is empty, and empty once it was gone through.
#[derive(Debug)]
pub(super) struct Generator(Mutex<VecDeque<Value>>);

impl Generator {
    pub(super) fn rest(&self) -> std::sync::MutexGuard<'_, VecDeque<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<generator>")
    }
}

/// What `keys()`, `values()` and `items()` of a mapping give.
#[derive(Debug)]
pub(super) struct View {
    /// As Python prints it.
    pub(super) name: &'static str,
    pub(super) items: Vec<Value>,
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
}

/// `range(start, stop, step)`.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) start: i64,
    pub(super) stop: i64,
    pub(super) step: i64,
}

impl Range {
    /// Most items: more are refused by Jinja2's sandbox too.
    pub(super) const LENGTH_MAX: usize = 100_000;

    pub(super) fn len(&self) -> usize {
        let (from, to) = if self.step > 0 {
            (i128::from(self.start), i128::from(self.stop))
        } else {
            (i128::from(self.stop), i128::from(self.start))
        };
        let step = i128::from(self.step.unsigned_abs().max(1));
        usize::try_from((to - from + step - 1) / step).unwrap_or(0)
    }

    /// The part between two places, which are in bounds.
    pub(super) fn slice(&self, first: i128, last: i128, step: i128) -> Self {
        let at = |place: i128| {
            let item = i128::from(self.start).saturating_add(i128::from(self.step) * place);
            i64::try_from(item).unwrap_or(if item < 0 { i64::MIN } else { i64::MAX })
        };
        let step = i128::from(self.step).saturating_mul(step);
        let step = i64::try_from(step).unwrap_or(if step < 0 { i64::MIN } else { i64::MAX });
        Self { start: at(first), stop: at(last), step }
    }

    pub(super) fn items(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.len()).map(|i| self.start.wrapping_add(self.step.wrapping_mul(i as i64)))
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items().map(Value::from).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }
}

/// One group of `groupby`: a tuple whose parts have names.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) grouper: Value,
    pub(super) list: Value,
}

impl Object for Group {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_usize() {
            Some(0) => Some(self.grouper.clone()),
            Some(1) => Some(self.list.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// The arguments of a call, given by position or by name, in the order of `parameters`.
pub(super) fn bind<const N: usize>(
    function: &str,
    args: &[Value],
    parameters: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let (given, named): (&[Value], Kwargs) = from_args(args)?;
    if given.len() > N {
        return fail(format!("{function} takes at most {N} arguments, not {}", given.len()));
    }
    let mut bound = [const { None }; N];
    for (place, value) in bound.iter_mut().zip(given) {
        *place = Some(value.clone());
    }
    for name in named.args() {
        let place = parameters.iter().position(|parameter| *parameter == name);
        match place.map(|i| &mut bound[i]) {
            Some(place @ None) => *place = Some(named.peek::<Value>(name)?),
            Some(_) => return fail(format!("{function} is given {name} twice")),
            None => return fail(format!("{function} has no argument {name}")),
        }
    }
    Ok(bound)
}

/// The argument, which must be there.
pub(super) fn required(function: &str, argument: Option<Value>) -> Result<Value, Error> {
    argument.map_or_else(|| fail(format!("{function} lacks an argument")), Ok)
}
