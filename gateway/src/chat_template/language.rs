//! The language that a chat template is written in: Jinja2's, as `transformers` sets it up
//! (`ImmutableSandboxedEnvironment` with blocks trimmed, `break` and `continue`, its own `tojson`,
//! `raise_exception`, `strftime_now` and `{% generation %}`).
//!
//! The engine gives syntax, scopes, loops, macros and bounds. All that differs from Python is here:
//! operators (`rewrite`), types, methods, filters, tests and printing.

use std::cmp::Ordering;

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    syntax::SyntaxConfig,
    value::{Rest, ValueOrKwargs},
};

use super::{
    containers, filters, globals,
    json::tojson,
    lookup, number_filters,
    operators::{self, contains, equal, ordered},
    print::to_text,
    rewrite::operator,
    text_filters, type_tests,
    value::{fail, iterate},
};
use crate::template_functions::{raise_exception, strftime_now};

pub(super) type Callable = fn(&mut State<'_, '_>, &[Value]) -> Result<Value, Error>;

/// An environment in which rewritten templates run.
pub(super) fn environment(fuel: u64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::empty();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(fuel));
    environment.set_formatter(|out, state, value| {
        match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&to_text(state, value)?),
        }
        .map_err(Error::from)
    });
    // The call of `{% call %}`; there is no other method that an object does not have.
    environment.set_unknown_method_callback(|state, value, method, args| match method {
        operator::CALL => lookup::call(state, value, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    });
    for (name, filter) in OPERATORS.iter().chain(FILTERS) {
        let filter = *filter;
        environment.add_filter(*name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
            filter(state, &args.into_values())
        });
    }
    for (name, test) in type_tests::TESTS {
        let test = *test;
        environment.add_test(*name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
            test(state, &args.into_values())
        });
    }
    for (name, function) in FUNCTIONS {
        let function = *function;
        environment.add_function(*name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
            function(state, &args.into_values())
        });
    }
    environment.add_function("namespace", minijinja::functions::namespace);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    Ok(environment)
}

pub(super) fn is_filter(name: &str) -> bool {
    FILTERS.iter().any(|(filter, _)| *filter == name)
}

/// The two operands of an operator.
fn two(args: &[Value]) -> Result<(&Value, &Value), Error> {
    match args {
        [left, right] => Ok((left, right)),
        _ => fail("an operator has two operands"),
    }
}

macro_rules! binary {
    ($operation:path) => {
        |state, args| {
            let (left, right) = two(args)?;
            $operation(state, left, right)
        }
    };
    (order $accept:path) => {
        |state, args| {
            let (left, right) = two(args)?;
            ordered(state, left, right, $accept).map(Value::from)
        }
    };
    (is $answer:expr) => {
        |state, args| {
            let (left, right) = two(args)?;
            let answer: fn(&State, &Value, &Value) -> Result<bool, Error> = $answer;
            answer(state, left, right).map(Value::from)
        }
    };
}

const OPERATORS: &[(&str, Callable)] = &[
    (operator::ADD, binary!(operators::add)),
    (operator::SUBTRACT, binary!(operators::subtract)),
    (operator::MULTIPLY, binary!(operators::multiply)),
    (operator::DIVIDE, binary!(operators::divide)),
    (operator::FLOOR_DIVIDE, binary!(operators::floor_divide)),
    (operator::REMAINDER, binary!(operators::remainder)),
    (operator::POWER, binary!(operators::power)),
    (operator::CONCAT, binary!(operators::concat)),
    (operator::NEGATE, |_, args| operators::negate(args.first().unwrap_or(&Value::UNDEFINED))),
    (operator::EQUAL, binary!(is equal)),
    (operator::NOT_EQUAL, binary!(is | state, a, b | equal(state, a, b).map(|equal| !equal))),
    (operator::LESS, binary!(order Ordering::is_lt)),
    (operator::LESS_EQUAL, binary!(order Ordering::is_le)),
    (operator::GREATER, binary!(order Ordering::is_gt)),
    (operator::GREATER_EQUAL, binary!(order Ordering::is_ge)),
    (operator::IN, binary!(is | state, item, all | contains(state, all, item))),
    (operator::NOT_IN, binary!(is | state, item, all | contains(state, all, item).map(|is| !is))),
    (operator::ATTRIBUTE, |_, args| {
        let (value, name) = two(args)?;
        lookup::get_attribute(value, name.as_str().unwrap_or_default())
    }),
    (operator::ITEM, binary!(lookup::get_item)),
    (operator::SLICE, |state, args| lookup::slice(state, args)),
    (operator::CALL, |state, args| match args.split_first() {
        Some((callee, args)) => lookup::call(state, callee, args),
        None => fail("a call lacks what is called"),
    }),
    (operator::CALL_METHOD, lookup::call_method),
    (operator::KEEP, |state, args| match args {
        [value] => lookup::check_nesting(state, value, 0).map(|()| value.clone()),
        _ => fail("a namespace keeps one value"),
    }),
    (operator::ITERATE, |state, args| {
        iterate(state, args.first().unwrap_or(&Value::UNDEFINED)).map(Value::from)
    }),
];

const FILTERS: &[(&str, Callable)] = &[
    ("abs", number_filters::abs),
    ("attr", filters::attr),
    ("batch", filters::batch),
    ("capitalize", |state, args| text_filters::by_method(state, "capitalize", args)),
    ("center", text_filters::center),
    ("count", filters::count),
    ("d", filters::default),
    ("default", filters::default),
    ("dictsort", filters::dictsort),
    ("e", text_filters::escape),
    ("escape", text_filters::escape),
    ("filesizeformat", text_filters::file_size),
    ("first", filters::first),
    ("float", number_filters::float),
    ("forceescape", text_filters::force_escape),
    ("format", text_filters::format),
    ("groupby", filters::groupby),
    ("indent", text_filters::indent),
    ("int", number_filters::int),
    ("items", filters::items),
    ("join", filters::join),
    ("last", filters::last),
    ("length", filters::count),
    ("list", filters::list),
    ("lower", |state, args| text_filters::by_method(state, "lower", args)),
    ("map", filters::map),
    ("max", filters::max),
    ("min", filters::min),
    ("reject", |state, args| filters::select(state, args, false, false)),
    ("rejectattr", |state, args| filters::select(state, args, false, true)),
    ("replace", text_filters::replace),
    ("reverse", filters::reverse),
    ("round", number_filters::round),
    ("safe", text_filters::safe),
    ("select", |state, args| filters::select(state, args, true, false)),
    ("selectattr", |state, args| filters::select(state, args, true, true)),
    ("slice", filters::slice),
    ("sort", filters::sort),
    ("string", text_filters::string),
    ("striptags", text_filters::strip_tags),
    ("sum", filters::sum),
    ("title", text_filters::title),
    ("tojson", tojson),
    ("trim", text_filters::trim),
    ("truncate", text_filters::truncate),
    ("unique", filters::unique),
    ("upper", |state, args| text_filters::by_method(state, "upper", args)),
    ("urlencode", text_filters::url_encode),
    ("wordcount", text_filters::word_count),
    ("xmlattr", text_filters::xml_attributes),
];

const FUNCTIONS: &[(&str, Callable)] = &[
    ("cycler", globals::cycler),
    ("dict", |state, args| containers::dict(state, args)),
    ("joiner", globals::joiner),
    ("range", globals::range),
];
