//! The policy's values in words.

use tandem_policy::{
    InvariantStatus, Rung, What,
    fault::Kind,
    gates::{GateName, GateState},
    invariant::{Invariant, Mode, Unknown, judge::in_words},
};

use crate::print::Color;

/// The name that a value has in JSON; for what is written as a string there.
fn json_name(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "?".into(),
    }
}

pub(super) fn invariant(name: Invariant) -> String {
    json_name(name)
}

pub(super) fn gate(name: GateName) -> String {
    json_name(name)
}

pub(super) fn rung(rung: Rung) -> String {
    json_name(rung)
}

pub(super) fn mode(mode: Mode) -> String {
    json_name(mode)
}

/// `broken link_mtu`, `signature metal-oom`, `panic`.
pub(super) fn fault(kind: &Kind) -> String {
    match kind {
        Kind::Broken(of) | Kind::Flapping(of) => format!("{} {}", kind.name(), invariant(*of)),
        Kind::Signature(id) => format!("{} {id}", kind.name()),
        Kind::PeerLost(of) | Kind::PathLost(of) | Kind::Parity(of) | Kind::Unpaired(of) => {
            format!("{} {of}", kind.name())
        }
        _ => kind.name().into(),
    }
}

pub(super) const fn gate_state(state: GateState) -> (&'static str, Color) {
    match state {
        GateState::Waiting => ("waiting", Color::Faint),
        GateState::Checking => ("checking", Color::Warn),
        GateState::Passed => ("passed", Color::Good),
        GateState::Failed => ("failed", Color::Bad),
    }
}

/// What was found of an invariant, or why nothing was.
pub(super) fn got(row: &InvariantStatus) -> String {
    match (&row.found, &row.unknown) {
        (_, Some(Unknown::NotOnThisPlatform)) => "not on this platform".into(),
        (_, Some(Unknown::NotConfigured(key))) => format!("not configured: {key}"),
        (_, Some(Unknown::Unread)) => "not read yet".into(),
        (_, Some(Unknown::Failed(why))) => format!("can't be read: {why}"),
        (_, Some(Unknown::Hung(what))) => format!("the probe hangs: {what}"),
        (Some(found), None) => in_words(row.name, found),
        (None, None) => "not read yet".into(),
    }
}

/// Whether an invariant counts against the host: it is enforced, it applies here, and it does not
/// hold or is not known to.
pub(super) fn is_wrong(row: &InvariantStatus) -> bool {
    let applies =
        !matches!(row.unknown, Some(Unknown::NotOnThisPlatform | Unknown::NotConfigured(_)));
    applies && row.mode == Mode::Enforce && row.holds != Some(true)
}

/// `once`, `4 times`.
pub(super) fn times(count: u32) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

pub(super) fn bytes(bytes: u64) -> String {
    const GIBIBYTE: u64 = 1 << 30;
    if bytes < GIBIBYTE {
        return format!("{} MiB", bytes >> 20);
    }
    // One place behind the point, rounded down: what is free is never overstated.
    let tenths = u128::from(bytes) * 10 / u128::from(GIBIBYTE);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// An event in one line.
pub(super) fn event(what: &What) -> String {
    let because =
        |cause: &Option<String>| cause.as_ref().map_or(String::new(), |c| format!(": {c}"));
    match what {
        What::Started { boot, is_new_boot, version } => {
            let new = if *is_new_boot { "a new " } else { "" };
            format!("tandem {version} in {new}boot {boot}")
        }
        What::Gate(g) => format!("{} {}: {}", gate(g.gate), gate_state(g.state).0, g.evidence),
        What::FaultRaised(f) => format!("{} raised: {}", fault(&f.kind), f.evidence),
        What::FaultCleared(f) => format!("{} cleared, met {}", fault(&f.kind), times(f.count)),
        What::Drift { invariant: name, found, wanted } => {
            format!("{} is {found}, wanted {wanted}", invariant(*name))
        }
        What::Held { invariant: name, after_ms } => {
            let after = crate::print::time::span(*after_ms);
            format!("{} holds again after {after}", invariant(*name))
        }
        What::Action { action } => action.clone(),
        What::Epoch { epoch, from, to, cause } => {
            format!("epoch {epoch}: {from} to {to}{}", because(cause))
        }
        What::Gateway { from, to, cause } => format!("{from} to {to}{}", because(cause)),
        What::Leak { verdict, unexplained_bytes } => {
            format!("{verdict}: {} have no owner", bytes(*unexplained_bytes))
        }
        What::Canary { passed, detail } => {
            format!("{}: {detail}", if *passed { "passed" } else { "failed" })
        }
        What::Retune { model, prefill_step_tokens } => {
            format!("{model}: {prefill_step_tokens} tokens a prefill step")
        }
        What::Reboot { phase, cause, proposer, .. } => {
            let by = proposer.as_ref().map_or(String::new(), |node| format!(", wanted by {node}"));
            format!("{phase}{by}{}", because(cause))
        }
        What::RebootClosed { cause, outcome, detail, took_ms, .. } => {
            let took = crate::print::time::span(*took_ms);
            let why = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            format!("for {cause}: {} after {took}{why}", outcome.name())
        }
        What::Peer { node, change, detail } => format!("{node} {}: {detail}", json_name(change)),
        What::Mode { mode, why } => format!("{mode}{}", because(why)),
        What::Order { order } => order.clone(),
        What::Evidence { signature, source, text } => format!("{signature} in {source}: {text}"),
        What::Config { taken: true, .. } => "taken".into(),
        What::Config { taken: false, detail } => format!("refused: {detail}"),
    }
}
