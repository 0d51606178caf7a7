//! `tandem status`.

use std::io::{self, Write};

use tandem_policy::{GatewayStatus, Health, RankStatus, Status, gates::GateState};

use super::{nodes, words};
use crate::{
    ask::Asked,
    print::{Color, Span, Style, Table, escape_json, field, time::span},
};

/// The endpoint's JSON, as it came.
pub(super) fn json(out: &mut impl Write, _: &Style, asked: &Asked) -> io::Result<i32> {
    writeln!(out, "{}", escape_json(&asked.json))?;
    Ok(asked.exit_code())
}

/// The status in lines, and a table of the ranks.
pub(super) fn print(out: &mut impl Write, style: &Style, asked: &Asked) -> io::Result<i32> {
    let status = &asked.status;
    if asked.is_stale() {
        let why = format!("the supervisor is stuck; this is {} old", span(age_ms(asked)));
        field(out, style, "STALE", why, Some(Color::Bad))?;
    }
    let (word, color) = health(status.health);
    let word =
        if status.draining { format!("{word}, drained or being drained") } else { word.into() };
    field(out, style, "health", word, Some(color))?;
    field(out, style, "node", &status.node, None)?;
    field(out, style, "model", &status.model, None)?;
    if let Some((text, color)) = nodes::role(&status.pair) {
        field(out, style, "pair", text, color)?;
    }
    serving(out, style, status)?;
    host(out, style, status)?;
    troubles(out, style, status)?;
    if !status.ranks.is_empty() {
        writeln!(out)?;
        ranks(&status.ranks).write(out, style)?;
    }
    nodes::print(out, style, &status.pair)?;
    Ok(asked.exit_code())
}

pub(super) const fn health(health: Health) -> (&'static str, Color) {
    match health {
        Health::Healthy => ("healthy", Color::Good),
        Health::Degraded => ("degraded", Color::Warn),
        Health::NotServing => ("not serving", Color::Bad),
    }
}

pub(super) fn age_ms(asked: &Asked) -> u64 {
    u64::try_from(asked.age.as_millis()).unwrap_or(u64::MAX)
}

/// When tokens last came.
pub(super) fn proof(status: &Status) -> String {
    match status.proven_age_ms {
        Some(age_ms) => format!("tokens came {} ago", span(age_ms)),
        None => "no tokens came yet".into(),
    }
}

fn serving(out: &mut impl Write, style: &Style, status: &Status) -> io::Result<()> {
    let phase =
        format!("{} for {}, epoch {}", status.phase, span(status.phase_age_ms), status.epoch);
    field(out, style, "ranks", phase, None)?;
    field(out, style, "gateway", gateway(&status.gateway), None)?;
    if let Some(exit) = &status.gateway.last_exit {
        field(out, style, "", format!("last gateway: {exit}"), None)?;
    }
    let color = if status.proven { Color::Good } else { Color::Warn };
    field(out, style, "proof", proof(status), Some(color))?;
    let open = status.gates.iter().find(|gate| gate.state != GateState::Passed);
    let gate = match open {
        Some(gate) => {
            let (state, color) = words::gate_state(gate.state);
            let text = format!("{} {state}: {}", words::gate(gate.gate), gate.evidence);
            Some((text.trim_end_matches([':', ' ']).to_owned(), color))
        }
        None if status.gates.is_empty() => None,
        None => Some(("all passed".to_owned(), Color::Good)),
    };
    if let Some((text, color)) = gate {
        field(out, style, "gate", text, Some(color))?;
    }
    let restarts = format!("{} of {} in this window", status.restarts, status.restarts_max);
    field(out, style, "restarts", restarts, None)
}

fn gateway(gateway: &GatewayStatus) -> String {
    let ready = match gateway.ready {
        Some(true) => "ready",
        Some(false) => "not ready",
        None => "silent",
    };
    let pid = gateway.pid.map_or(String::new(), |pid| format!(", process {pid}"));
    format!("{}, {ready}, http://{}{pid}", gateway.phase, gateway.listen)
}

fn host(out: &mut impl Write, style: &Style, status: &Status) -> io::Result<()> {
    let memory = match &status.memory {
        Some(memory) => format!(
            "{} of {} wired, {} without an owner, leak {}",
            words::bytes(memory.wired_bytes),
            words::bytes(memory.total_bytes),
            words::bytes(memory.unexplained_bytes),
            memory.leak
        ),
        None => "not known".into(),
    };
    field(out, style, "memory", memory, None)?;
    let wrong = status.invariants.iter().filter(|row| words::is_wrong(row)).count();
    let (text, color) = match wrong {
        0 => ("hold".to_owned(), None),
        n => (
            format!("{n} of {} not known to hold: tandem check", status.invariants.len()),
            Some(Color::Warn),
        ),
    };
    field(out, style, "invariants", text, color)?;
    let cause = status.reboot.cause.as_ref().map_or(String::new(), |c| format!(" ({c})"));
    let refused =
        status.reboot.refused.as_ref().map_or(String::new(), |why| format!("; not now: {why}"));
    let reboot = format!(
        "{}{cause}, {} left today{refused}",
        status.reboot.phase, status.reboot.budget_left
    );
    field(out, style, "reboot", reboot, None)
}

/// What needs an operator's eye; nothing if all is well.
fn troubles(out: &mut impl Write, style: &Style, status: &Status) -> io::Result<()> {
    match status.operator_hold_until_ms {
        Some(0) => field(out, style, "operator", "holds it until released", Some(Color::Warn))?,
        Some(until_ms) => {
            let left = span(until_ms.saturating_sub(style.now_wall_ms));
            field(out, style, "operator", format!("holds it for {left} more"), Some(Color::Warn))?;
        }
        None => {}
    }
    if status.operator_drained {
        let text = "drained it; tandem resume serves again";
        field(out, style, "operator", text, Some(Color::Warn))?;
    }
    if let Some(held) = &status.held {
        field(out, style, "held", held, Some(Color::Bad))?;
    }
    if let Some(failure) = &status.last_failure {
        field(out, style, "failure", failure, None)?;
    }
    for fault in &status.faults {
        let lasting = style.lasting(fault.since_wall_ms);
        let (kind, times) = (words::fault(&fault.kind), words::times(fault.count));
        let text = format!("{kind} {lasting}, met {times}: {}", fault.evidence);
        field(out, style, "fault", text, Some(Color::Warn))?;
        if !fault.remedy.is_empty() {
            field(out, style, "", format!("do: {}", fault.remedy), None)?;
        }
    }
    for leak in &status.suspected_leaks {
        let text = format!(
            "rank {} (process {}, epoch {}) was killed {}; it may have stranded memory",
            leak.rank,
            leak.pid,
            leak.epoch,
            style.ago(leak.wall_ms)
        );
        field(out, style, "leak?", text, Some(Color::Warn))?;
    }
    if let Some(tokens) = status.lowered_prefill_step_tokens {
        let text = format!("the prefill step is lowered to {tokens} tokens");
        field(out, style, "retuned", text, Some(Color::Warn))?;
    }
    for (name, trouble) in [("config", &status.config_refused), ("ledger", &status.ledger_trouble)]
    {
        if let Some(text) = trouble {
            field(out, style, name, text, Some(Color::Bad))?;
        }
    }
    Ok(())
}

fn ranks(ranks: &[RankStatus]) -> Table {
    let number = |n: Option<u64>| Span::new(n.map_or("-".into(), |n| n.to_string()));
    let size = |n: Option<u64>| Span::new(n.map_or("-".into(), words::bytes));
    let mut table = Table::new(&[
        "rank",
        "pid",
        "phase",
        "steps",
        "tokens",
        "active",
        "queued",
        "memory",
        "peak",
        "last exit",
    ]);
    for rank in ranks {
        table.row(vec![
            Span::new(rank.rank.to_string()),
            number(rank.pid.map(u64::from)),
            Span::new(&rank.phase),
            number(rank.steps),
            number(rank.tokens),
            number(rank.active.map(u64::from)),
            number(rank.queued.map(u64::from)),
            size(rank.memory_bytes),
            size(rank.memory_peak_bytes),
            Span::new(rank.last_exit.as_deref().unwrap_or("-")),
        ]);
    }
    table
}
