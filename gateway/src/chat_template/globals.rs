//! Functions that every template has.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Object, ObjectRepr},
};

use super::{
    print::to_text,
    value::{Range, bind, expect_index, fail, required},
};

/// `range(stop)` or `range(start, stop, step)`.
pub(super) fn range(_: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let [first, second, step] = bind("range", args, ["start", "stop", "step"])?;
    let first = required("range", first)?;
    let (start, stop) = match second {
        Some(stop) => (first, stop),
        None => (Value::from(0), first),
    };
    let whole = |value: &Value| {
        let n = expect_index(value, "an argument of range")?;
        i64::try_from(n).or_else(|_| fail("an argument of range is too large"))
    };
    let step = step.as_ref().map_or(Ok(1), whole)?;
    let range = Range { start: whole(&start)?, stop: whole(&stop)?, step };
    if range.step == 0 {
        return fail("a range has steps of zero");
    }
    if range.len() > Range::LENGTH_MAX {
        return fail(format!("a range has at most {} items", Range::LENGTH_MAX));
    }
    Ok(Value::from_object(range))
}

/// `cycler(a, b, …)`.
pub(super) fn cycler(_: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    if args.is_empty() {
        return fail("a cycler needs something to cycle through");
    }
    Ok(Value::from_object(Cycler { items: args.to_vec(), place: AtomicUsize::new(0) }))
}

/// Gives its items in turn.
#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: Vec<Value>,
    place: AtomicUsize,
}

impl Cycler {
    fn current(&self) -> Value {
        let place = self.place.load(Ordering::Relaxed);
        self.items.get(place).cloned().unwrap_or_default()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.current())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        _: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "next" => {
                let item = self.current();
                let place = self.place.load(Ordering::Relaxed);
                self.place.store((place + 1) % self.items.len(), Ordering::Relaxed);
                Ok(item)
            }
            "reset" => {
                self.place.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `joiner(separator)`.
pub(super) fn joiner(state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let [separator] = bind("joiner", args, ["sep"])?;
    let separator = separator.map_or(Ok(", ".to_owned()), |value| to_text(state, &value))?;
    Ok(Value::from_object(Joiner { separator, used: AtomicBool::new(false) }))
}

/// Gives nothing the first time it is called, and its separator from then on.
#[derive(Debug)]
struct Joiner {
    separator: String,
    used: AtomicBool,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        let used = self.used.swap(true, Ordering::Relaxed);
        Ok(Value::from(if used { self.separator.as_str() } else { "" }))
    }
}
