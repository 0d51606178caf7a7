//! Strings made longer, which is paid for before they are.

use minijinja::{Error, State, Value};

use super::{
    operators::SIZE_MAX,
    value::{bind, charge, expect_index, expect_str, fail, required},
};

/// `text.replace(old, new, count)`; a negative count is all of them.
pub(super) fn replace(
    state: &State,
    text: &str,
    old: &str,
    new: &str,
    count: i128,
) -> Result<String, Error> {
    let most = text.len() / old.len().max(1) + 1;
    let count = usize::try_from(count).unwrap_or(most).min(most);
    let grows = count.saturating_mul(new.len().saturating_sub(old.len()));
    if grows > SIZE_MAX {
        // What is replaced may be rarer: only then is it worth counting.
        charge(state, text.matches(old).count().min(count).saturating_mul(new.len()))?;
    } else {
        charge(state, grows)?;
    }
    Ok(text.replacen(old, new, count))
}

pub(super) fn justify(
    state: &State,
    text: &str,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let [width, fill] = bind(name, args, ["width", "fillchar"])?;
    let width = usize::try_from(expect_index(&required(name, width)?, "a width")?).unwrap_or(0);
    let fill = fill.map_or(Ok(" ".to_owned()), |fill| {
        expect_str(&fill, "what is filled with").map(str::to_owned)
    })?;
    if fill.chars().count() != 1 || (name == "zfill" && fill != " ") {
        return fail("what is filled with is one character");
    }
    let length = text.chars().count();
    let missing = width.saturating_sub(length);
    if missing > SIZE_MAX {
        return fail("a value grows too large");
    }
    charge(state, missing)?;
    Ok(Value::from(match name {
        "ljust" => format!("{text}{}", fill.repeat(missing)),
        "rjust" => format!("{}{text}", fill.repeat(missing)),
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        _ => center(text, missing, width, &fill),
    }))
}

/// Python puts the odd blank on the left where the width is odd.
fn center(text: &str, missing: usize, width: usize, fill: &str) -> String {
    let left = missing / 2 + (missing & width & 1);
    format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
}

pub(super) fn expand_tabs(state: &State, text: &str, size: usize) -> Result<String, Error> {
    let tabs = text.matches('\t').count();
    if tabs.saturating_mul(size) > SIZE_MAX {
        return fail("a value grows too large");
    }
    charge(state, tabs * size)?;
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' if size == 0 => {}
            '\t' => {
                let blanks = size - column % size;
                out += &" ".repeat(blanks);
                column += blanks;
            }
            c => {
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                out.push(c);
            }
        }
    }
    Ok(out)
}
