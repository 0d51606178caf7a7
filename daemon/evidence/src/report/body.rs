//! The documents of a report, read for what is evidence here. Anything may be missing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{REPORT_TEXT_BYTES_MAX, Report, ReportError, Victim};
use crate::text;

/// Longest name that is kept, in bytes: a process, a signal, a reason.
const NAME_BYTES_MAX: usize = 255;
/// Most killed processes that are kept. One report lists a few; all that run are some hundreds.
const VICTIMS_MAX: usize = 64;
/// Frames of the faulting stack that are kept: what failed stands at its top.
const FRAMES_MAX: usize = 32;
/// Longest text of one library that is kept, in bytes: an exception's message, not a dump.
const ASI_TEXT_BYTES_MAX: usize = 4 << 10;
/// Most texts of libraries that are kept.
const ASI_TEXTS_MAX: usize = 32;

/// Whether reports with this header are read.
pub(super) fn known(header: &Value) -> Result<(), ReportError> {
    match bug_type(header).as_str() {
        "309" | "298" | "210" | "284" => Ok(()),
        "" => Err(ReportError::not_a_report("its header has no bug_type")),
        other => Err(ReportError::OtherKind { bug_type: other.to_owned() }),
    }
}

/// What the two documents say.
pub(super) fn report(header: &Value, body: &Value) -> Result<Report, ReportError> {
    if !body.is_object() {
        return Err(ReportError::not_a_report("its body is no JSON object"));
    }
    match bug_type(header).as_str() {
        "309" => Ok(crash(header, body)),
        "298" => Ok(jetsam(header, body)),
        "210" => Ok(panic(header, body)),
        "284" => Ok(gpu(header, body)),
        other => Err(ReportError::OtherKind { bug_type: other.to_owned() }),
    }
}

/// It is written as a string; a number is taken too.
fn bug_type(header: &Value) -> String {
    match header.get("bug_type") {
        Some(Value::String(kind)) => text::line(kind, NAME_BYTES_MAX),
        Some(Value::Number(kind)) => kind.to_string(),
        _ => String::new(),
    }
}

fn crash(header: &Value, body: &Value) -> Report {
    let exception = body.get("exception").unwrap_or(&Value::Null);
    let termination = body.get("termination").map(|termination| {
        let code = number(termination, "code").map(|code| code.to_string());
        let parts = [name(termination, "namespace"), code, name(termination, "indicator")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let termination = termination.filter(|termination| !termination.is_empty());
    let mut lines = Vec::new();
    let about: Vec<_> =
        ["type", "signal", "subtype"].into_iter().filter_map(|key| name(exception, key)).collect();
    if !about.is_empty() {
        lines.push(format!("exception {}", about.join(" ")));
    }
    lines.extend(termination.as_ref().map(|termination| format!("termination {termination}")));
    lines.extend(said(body));
    lines.extend(frames(body));
    let process = name(body, "procName").or_else(|| name(header, "app_name"));
    Report::Crash {
        process: process.or_else(|| name(header, "name")).unwrap_or_default(),
        pid: pid(body),
        signal: name(exception, "signal"),
        exception: name(exception, "type"),
        termination,
        captured_wall_ms: when(body, "captureTime").or_else(|| when(header, "timestamp")),
        text: text::block(&lines.join("\n"), REPORT_TEXT_BYTES_MAX),
    }
}

/// Application-specific information: what libraries said last, by library. One line each, so that
/// none can pass for another part of the report.
fn said(body: &Value) -> Vec<String> {
    let libraries = body.get("asi").and_then(Value::as_object).into_iter().flatten();
    // By name, whatever order the reader of JSON keeps them in.
    let libraries: BTreeMap<&String, &Value> = libraries.collect();
    let texts = libraries.into_iter().flat_map(|(library, texts)| {
        let library = text::line(library, NAME_BYTES_MAX);
        let texts = texts.as_array().map(Vec::as_slice).unwrap_or_default();
        texts
            .iter()
            .filter_map(Value::as_str)
            .map(move |said| format!("asi {library}: {}", text::line(said, ASI_TEXT_BYTES_MAX)))
    });
    texts.take(ASI_TEXTS_MAX).collect()
}

/// The top of the faulting thread's stack.
fn frames(body: &Value) -> Vec<String> {
    let threads = body.get("threads").and_then(Value::as_array);
    let threads = threads.map(Vec::as_slice).unwrap_or_default();
    let faulting = number(body, "faultingThread")
        .and_then(|place| threads.get(usize::try_from(place).ok()?))
        .or_else(|| threads.iter().find(|t| t.get("triggered") == Some(&Value::Bool(true))));
    let frames = faulting.and_then(|thread| thread.get("frames")).and_then(Value::as_array);
    let image = |frame: &Value| {
        let place = usize::try_from(number(frame, "imageIndex")?).ok()?;
        name(body.get("usedImages")?.as_array()?.get(place)?, "name")
    };
    let line = |frame: &Value| {
        let symbol = name(frame, "symbol").unwrap_or_else(|| "unknown".into());
        format!("frame {symbol} ({})", image(frame).unwrap_or_else(|| "unknown".into()))
    };
    frames.into_iter().flatten().take(FRAMES_MAX).map(line).collect()
}

fn jetsam(header: &Value, body: &Value) -> Report {
    let page_bytes =
        number(body, "pageSize").or_else(|| number(body.get("memoryStatus")?, "pageSize"));
    let processes = body.get("processes").and_then(Value::as_array).into_iter().flatten();
    // All that ran are listed; those that were killed have a reason.
    let victims = processes.filter_map(|process| {
        let reason = name(process, "reason").filter(|reason| !reason.is_empty())?;
        let pages = number(process, "rpages");
        Some(Victim {
            name: name(process, "name").unwrap_or_default(),
            pid: pid(process),
            reason,
            resident_bytes: pages.zip(page_bytes).and_then(|(n, bytes)| n.checked_mul(bytes)),
        })
    });
    Report::Jetsam {
        victims: victims.take(VICTIMS_MAX).collect(),
        largest: name(body, "largestProcess"),
        captured_wall_ms: when(body, "date").or_else(|| when(header, "timestamp")),
    }
}

fn panic(header: &Value, body: &Value) -> Report {
    let whole = body.get("panicString").and_then(Value::as_str).unwrap_or_default();
    Report::Panic {
        boot_session: boot_session(whole),
        text: text::block(whole, REPORT_TEXT_BYTES_MAX),
        captured_wall_ms: when(body, "date").or_else(|| when(header, "timestamp")),
    }
}

/// The UUID behind `Boot session UUID:`, as `kern.bootsessionuuid` writes it.
fn boot_session(panic: &str) -> Option<String> {
    let (_, after) = panic.split_once("Boot session UUID:")?;
    let uuid: String = after
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_hexdigit() || *c == '-')
        .take(37)
        .collect();
    // Four hyphens and 32 hexadecimal digits (RFC 9562).
    let whole = uuid.len() == 36 && uuid.bytes().filter(|byte| *byte == b'-').count() == 4;
    whole.then_some(uuid)
}

fn gpu(header: &Value, body: &Value) -> Report {
    let analysis = body.get("analysis").unwrap_or(&Value::Null);
    Report::Gpu {
        process: name(body, "process_name").or_else(|| name(header, "name")).unwrap_or_default(),
        signature: number(analysis, "signature"),
        restart_reason: number(analysis, "restart_reason"),
        restart_reason_text: name(analysis, "restart_reason_desc"),
        guilty_dm: number(analysis, "guilty_dm"),
        captured_wall_ms: when(body, "timestamp").or_else(|| when(header, "timestamp")),
    }
}

fn name(object: &Value, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(|name| text::line(name, NAME_BYTES_MAX))
}

fn number(object: &Value, key: &str) -> Option<u64> {
    object.get(key)?.as_u64()
}

fn pid(object: &Value) -> Option<u32> {
    u32::try_from(number(object, "pid")?).ok()
}

/// A time as the reports write it: `2026-02-08 22:58:16.00 -0500`.
fn when(object: &Value, key: &str) -> Option<i64> {
    let time = object.get(key)?.as_str()?.trim();
    Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f %z", time).ok().map(Timestamp::as_millisecond)
}
