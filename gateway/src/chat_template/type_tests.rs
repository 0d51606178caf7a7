//! Jinja2's tests, what stands after `is`.

use std::cmp::Ordering;

use minijinja::{Error, State, Value};

use super::{
    characters::is_cased,
    language::{Callable, is_filter},
    lookup::is_callable,
    operators::{contains, equal, ordered, remainder, same},
    print::to_text,
    value::{Kind, fail, kind},
};

fn one(args: &[Value]) -> Result<&Value, Error> {
    match args {
        [value] => Ok(value),
        _ => fail("this test takes no argument"),
    }
}

fn two(args: &[Value]) -> Result<(&Value, &Value), Error> {
    match args {
        [value, other] => Ok((value, other)),
        _ => fail("this test takes one argument"),
    }
}

/// Whether the value's kind is one of these.
macro_rules! kinds {
    ($($kind:pat_param)|+) => {
        |_, args| Ok(Value::from(matches!(kind(one(args)?), $($kind)|+)))
    };
}

macro_rules! compared {
    ($accept:path) => {
        |state, args| {
            let (value, other) = two(args)?;
            ordered(state, value, other, $accept).map(Value::from)
        }
    };
}

const EQUAL: Callable = |state, args| {
    let (value, other) = two(args)?;
    equal(state, value, other).map(Value::from)
};
const NOT_EQUAL: Callable = |state, args| {
    let (value, other) = two(args)?;
    equal(state, value, other).map(|equal| Value::from(!equal))
};
const LESS: Callable = compared!(Ordering::is_lt);
const LESS_EQUAL: Callable = compared!(Ordering::is_le);
const GREATER: Callable = compared!(Ordering::is_gt);
const GREATER_EQUAL: Callable = compared!(Ordering::is_ge);

/// Every test, by its name.
pub(super) const TESTS: &[(&str, Callable)] = &[
    ("boolean", kinds!(Kind::Bool(_))),
    ("callable", |_, args| Ok(Value::from(is_callable(one(args)?)))),
    ("defined", |_, args| Ok(Value::from(!one(args)?.is_undefined()))),
    ("divisibleby", |state, args| {
        let (value, by) = two(args)?;
        divides(state, value, by, 0)
    }),
    ("eq", EQUAL),
    ("equalto", EQUAL),
    ("==", EQUAL),
    ("escaped", |_, args| Ok(Value::from(one(args)?.is_safe()))),
    ("even", |state, args| divides(state, one(args)?, &Value::from(2), 0)),
    ("false", kinds!(Kind::Bool(false))),
    ("filter", |_, args| Ok(Value::from(one(args)?.as_str().is_some_and(is_filter)))),
    ("float", kinds!(Kind::Float(_))),
    ("ge", GREATER_EQUAL),
    (">=", GREATER_EQUAL),
    ("gt", GREATER),
    ("greaterthan", GREATER),
    (">", GREATER),
    ("in", |state, args| {
        let (value, all) = two(args)?;
        contains(state, all, value).map(Value::from)
    }),
    ("integer", kinds!(Kind::Int(_))),
    ("iterable", |_, args| {
        use Kind::{Bool, Float, Int, None, Other};
        Ok(Value::from(!matches!(kind(one(args)?), None | Bool(_) | Int(_) | Float(_) | Other)))
    }),
    ("le", LESS_EQUAL),
    ("<=", LESS_EQUAL),
    ("lower", |state, args| cased(state, one(args)?, char::is_lowercase, char::is_uppercase)),
    ("lt", LESS),
    ("lessthan", LESS),
    ("<", LESS),
    ("mapping", kinds!(Kind::Dict)),
    ("ne", NOT_EQUAL),
    ("!=", NOT_EQUAL),
    ("none", kinds!(Kind::None)),
    ("number", kinds!(Kind::Int(_) | Kind::Float(_) | Kind::Bool(_))),
    ("odd", |state, args| divides(state, one(args)?, &Value::from(2), 1)),
    ("sameas", |_, args| {
        let (value, other) = two(args)?;
        let (a, b) = (kind(value), kind(other));
        let is_small = !matches!(a, Kind::List | Kind::Dict | Kind::Tuple);
        Ok(Value::from((a == b && is_small && value == other) || same_object(value, other)))
    }),
    ("sequence", |_, args| {
        use Kind::{Dict, List, Range, Str, Tuple, Undefined};
        Ok(Value::from(matches!(kind(one(args)?), Str | List | Tuple | Range | Dict | Undefined)))
    }),
    ("string", kinds!(Kind::Str)),
    ("test", |_, args| Ok(Value::from(one(args)?.as_str().is_some_and(is_test)))),
    ("true", kinds!(Kind::Bool(true))),
    ("undefined", |_, args| Ok(Value::from(one(args)?.is_undefined()))),
    ("upper", |state, args| cased(state, one(args)?, char::is_uppercase, char::is_lowercase)),
];

/// A constant can't name itself; a function can.
fn is_test(name: &str) -> bool {
    TESTS.iter().any(|(test, _)| *test == name)
}

fn same_object(value: &Value, other: &Value) -> bool {
    !matches!(kind(value), Kind::Tuple) && same(value, other)
}

fn divides(state: &State, value: &Value, by: &Value, rest: i64) -> Result<Value, Error> {
    let left = remainder(state, value, by)?;
    equal(state, &left, &Value::from(rest)).map(Value::from)
}

fn cased(
    state: &State,
    value: &Value,
    is: fn(char) -> bool,
    is_not: fn(char) -> bool,
) -> Result<Value, Error> {
    Ok(Value::from(is_cased(&to_text(state, value)?, is, is_not)))
}
