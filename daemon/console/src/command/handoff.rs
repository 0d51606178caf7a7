//! `tandem handoff`: the least that the next person, or program, must know to go on.

use std::{
    io::{self, Write},
    path::Path,
};

use tandem_ledger::{DriftCount, Quantiles, RequestTotals};
use tandem_policy::{
    Event, Rung, Status,
    gates::{Gate, GateState},
};

use super::{Context, events, past, status, words};
use crate::{
    ask::Asked,
    print::{Span, Style, field, line, time::iso, time::span},
};

/// How far back the ledger is read: a day, as the reboot budget counts.
const WINDOW_MS: u64 = 86_400_000;

/// The last things that were done or went wrong; more is in `tandem events`.
const LAST_MAX: usize = 8;

/// The kinds of events that are told.
const TOLD: [&str; 6] = ["started", "fault_raised", "action", "epoch", "reboot", "order"];

/// Drifts that are told, the most frequent first.
const DRIFTS_MAX: usize = 5;

/// What the ledger adds to the status.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) last: Vec<(i64, Event)>,
    pub(super) drifts: Vec<DriftCount>,
    pub(super) figures: RequestTotals,
}

pub(super) fn run(context: &Context<'_>, asked: &Asked, out: &mut impl Write) -> io::Result<i32> {
    let past = read(context.ledger, context.style.now_wall_ms).map_err(|no_past| no_past.why);
    print(out, &context.style, asked, context.model_path, &past)
}

fn read(folder: &Path, now_wall_ms: u64) -> Result<Past, past::NoPast> {
    let since_ms = now_wall_ms.saturating_sub(WINDOW_MS);
    let reader = past::open(folder)?;
    let mut drifts = reader.drifts(since_ms)?;
    drifts.sort_by_key(|drift| std::cmp::Reverse(drift.count));
    drifts.truncate(DRIFTS_MAX);
    Ok(Past {
        last: reader.events(None, LAST_MAX, Some(&TOLD))?.events,
        drifts,
        figures: reader.request_totals(since_ms..now_wall_ms.saturating_add(1))?,
    })
}

pub(super) fn print(
    out: &mut impl Write,
    style: &Style,
    asked: &Asked,
    model_path: Option<&Path>,
    past: &Result<Past, String>,
) -> io::Result<i32> {
    let status = &asked.status;
    let (health, color) = status::health(status.health);
    let stale = if asked.is_stale() { ", but the supervisor is STUCK" } else { "" };
    let write = |out: &mut _, name: &str, text: &str| field(out, style, name, text, None);
    write(out, "AT", &iso(style.now_wall_ms))?;
    let node = format!("{}, up {}, boot {}", status.node, span(status.uptime_ms), status.boot);
    write(out, "NODE", &node)?;
    write(out, "MODEL", &status.model)?;
    let path = model_path.map_or("not known here".into(), |path| path.display().to_string());
    write(out, "MODEL_DIR", &path)?;
    field(out, style, "STATE", format!("{health}{stale}; {}", status::proof(status)), Some(color))?;
    let runs = format!(
        "ranks {} for {} (epoch {}), gateway {} at http://{}",
        status.phase,
        span(status.phase_age_ms),
        status.epoch,
        status.gateway.phase,
        status.gateway.listen
    );
    write(out, "RUNS", &runs)?;
    write(out, "LAST_PASS", &last_pass(status))?;
    write(out, "CURRENT", &current(status))?;
    write(out, "BLOCKER", &blocker(status))?;
    write(out, "EVIDENCE", &evidence(status))?;
    write(out, "NEXT", &next_command(status))?;
    for text in do_not_repeat(status) {
        write(out, "NOT_AGAIN", &text)?;
    }
    for fault in &status.faults {
        let text = format!(
            "{} {}, met {}: {}",
            words::fault(&fault.kind),
            style.lasting(fault.since_wall_ms),
            words::times(fault.count),
            fault.evidence
        );
        write(out, "FAULT", &text)?;
    }
    let reboots = status.reboot.past_wall_ms.iter().map(|at| style.ago(*at)).collect::<Vec<_>>();
    let reboots = if reboots.is_empty() { "none".into() } else { reboots.join(", ") };
    write(out, "REBOOTS", &format!("{reboots}; {} left today", status.reboot.budget_left))?;
    match past {
        Ok(past) => told(out, style, past)?,
        Err(why) => write(out, "HISTORY", &format!("not known: {why}"))?,
    }
    Ok(asked.exit_code())
}

fn told(out: &mut impl Write, style: &Style, past: &Past) -> io::Result<()> {
    for drift in &past.drifts {
        let last = style.ago(drift.last_wall_ms);
        let text = format!(
            "{} {} times in 24 h, last {last}: {}, wanted {}",
            drift.invariant, drift.count, drift.found, drift.wanted
        );
        field(out, style, "DRIFT", text, None)?;
    }
    field(out, style, "FIGURES", figures(&past.figures), None)?;
    if !past.last.is_empty() {
        line(out, style, &[Span::new("LAST")])?;
    }
    for (id, event) in &past.last {
        line(out, style, &events::spans(style, &id.to_string(), event))?;
    }
    Ok(())
}

fn figures(totals: &RequestTotals) -> String {
    let quantiles = |name: &str, of: Option<Quantiles>| {
        of.map_or(String::new(), |q| format!(", {name} p50 {} ms p99 {} ms", q.p50, q.p99))
    };
    format!(
        "24 h: {} requests, {} failed, {} tokens in, {} out{}{}",
        totals.requests,
        totals.failed,
        totals.prompt_tokens,
        totals.completion_tokens,
        quantiles("first token", totals.first_token_ms),
        quantiles("whole", totals.total_ms),
    )
}

/// The last gate of those that passed without a gap.
fn last_pass(status: &Status) -> String {
    let passed = status.gates.iter().take_while(|gate| gate.state == GateState::Passed).last();
    passed.map_or("none".into(), |gate| format!("{}: {}", words::gate(gate.gate), gate.evidence))
}

fn current(status: &Status) -> String {
    let open = status.gates.iter().find(|gate| gate.state != GateState::Passed);
    match open {
        Some(gate) => {
            format!("{} {}", words::gate(gate.gate), words::gate_state(gate.state).0)
        }
        None if status.gates.is_empty() => "no gate was tried yet".into(),
        None => "all gates passed".into(),
    }
}

fn failed(status: &Status) -> Option<&Gate> {
    status.gates.iter().find(|gate| gate.state == GateState::Failed)
}

fn blocker(status: &Status) -> String {
    let worst = status.faults.first().map(|fault| words::fault(&fault.kind));
    status
        .held
        .clone()
        .or(worst)
        .or_else(|| status.operator_drained.then(|| "drained by an operator".into()))
        .or_else(|| status.operator_hold_until_ms.map(|_| "held by an operator".into()))
        .or_else(|| failed(status).map(|gate| format!("gate {}", words::gate(gate.gate))))
        .unwrap_or_else(|| "none".into())
}

/// What shows the blocker best: the worst fault's evidence, else the failure, else the open gate's.
fn evidence(status: &Status) -> String {
    status
        .faults
        .first()
        .map(|fault| fault.evidence.clone())
        .or_else(|| status.last_failure.clone())
        .or_else(|| failed(status).map(|gate| gate.evidence.clone()))
        .unwrap_or_else(|| status::proof(status))
}

/// What an operator does next.
pub(super) fn next_command(status: &Status) -> String {
    if status.operator_drained {
        return "tandem resume".into();
    }
    let remedies = status
        .faults
        .iter()
        .map(|fault| fault.remedy.as_str())
        .chain(failed(status).map(|gate| gate.remedy.as_str()));
    let mut wanted = remedies.filter(|remedy| !remedy.is_empty());
    if let Some(remedy) = wanted.next() {
        return remedy.into();
    }
    if status.operator_hold_until_ms.is_some() {
        return "tandem release".into();
    }
    if status.proven { "none; tandem status --watch".into() } else { "tandem gates".into() }
}

/// What was tried and did not last.
fn do_not_repeat(status: &Status) -> Vec<String> {
    let mut tried = Vec::new();
    for fault in status.faults.iter().filter(|f| f.count > 1 && f.rung != Rung::None) {
        let rung = words::rung(fault.rung);
        let kind = words::fault(&fault.kind);
        tried.push(format!("{rung} for {kind}: met {} times and still open", fault.count));
    }
    if status.restarts > 1 && !status.proven {
        let times = format!("{} of {}", status.restarts, status.restarts_max);
        tried.push(format!("restarting the ranks: {times} restarts used and not serving"));
    }
    if !status.suspected_leaks.is_empty() {
        tried.push("SIGKILL of a rank: it may have stranded memory before".into());
    }
    if let Some(why) = &status.reboot.refused {
        tried.push(format!("an automatic reboot: {why}"));
    }
    tried
}
