//! `tandem doctor`: everything at once, each thing with what to do about it.

use std::io::{self, Write};

use tandem_policy::{Status, gates::GateState};

use super::{status, words};
use crate::{
    ask::{AskError, Asked},
    exit,
    print::{Color, Span, Style, field, line, time::span},
};

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What an operator does unless it is fine; may be empty.
    pub remedy: String,
}

/// What came of a check, with what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    Fine(String),
    /// It is not.
    Wrong(String),
    /// It can't be told, which is not fine.
    Unknown(String),
}

impl Check {
    fn new(name: impl Into<String>, outcome: Outcome, remedy: impl Into<String>) -> Self {
        Self { name: name.into(), outcome, remedy: remedy.into() }
    }
}

/// All checks: first whether a supervisor is there, then what needs none, then what it says.
pub(super) fn all(url: &str, asked: &Result<Asked, AskError>, own: Vec<Check>) -> Vec<Check> {
    let mut checks = vec![supervisor(url, asked)];
    checks.extend(own);
    if let Ok(asked) = asked {
        checks.extend(of_status(&asked.status));
    }
    checks
}

fn supervisor(url: &str, asked: &Result<Asked, AskError>) -> Check {
    let (outcome, remedy) = match asked {
        Ok(asked) if asked.is_stale() => (
            Outcome::Wrong(format!(
                "stuck: it took its last turn {} ago",
                span(status::age_ms(asked))
            )),
            "look at its log and the disk of its ledger, then restart it",
        ),
        Ok(_) => (Outcome::Fine(format!("answers at {url}")), ""),
        Err(error @ AskError::Schema { .. }) => {
            (Outcome::Wrong(error.to_string()), "install the same version of both")
        }
        Err(AskError::Busy { why, .. }) => (
            Outcome::Wrong(format!("answers at {url}, but not with its status: {why}")),
            "try again soon; if it stays so, see who connects there: `lsof -nP -iTCP:PORT`",
        ),
        Err(AskError::Unreachable { why, .. }) => (
            Outcome::Wrong(format!("none answers at {url}: {why}")),
            "start it, or name its config with --config; its log says why it ended",
        ),
    };
    Check::new("supervisor", outcome, remedy)
}

fn of_status(status: &Status) -> Vec<Check> {
    let mut checks = Vec::new();
    let (word, _) = status::health(status.health);
    let proof = status::proof(status);
    let serving = if status.proven && status.health == tandem_policy::Health::Healthy {
        Outcome::Fine(proof)
    } else {
        Outcome::Wrong(format!("{word}; {proof}"))
    };
    let next = super::handoff::next_command(status);
    checks.push(Check::new("serving", serving, next));
    checks.extend(status.gates.iter().filter(|g| g.state != GateState::Waiting).map(|gate| {
        let found = gate.evidence.clone();
        let outcome = match gate.state {
            GateState::Passed => Outcome::Fine(found),
            GateState::Failed => Outcome::Wrong(found),
            GateState::Checking | GateState::Waiting => Outcome::Unknown(found),
        };
        Check::new(format!("gate {}", words::gate(gate.gate)), outcome, &gate.remedy)
    }));
    checks.extend(
        status.invariants.iter().filter(|r| r.holds == Some(true) || words::is_wrong(r)).map(
            |row| {
                let found = format!("{}, wanted {}", words::got(row), row.wanted);
                let outcome = match row.holds {
                    Some(true) => Outcome::Fine(words::got(row)),
                    Some(false) => Outcome::Wrong(found),
                    None => Outcome::Unknown(found),
                };
                Check::new(words::invariant(row.name), outcome, &row.remedy)
            },
        ),
    );
    checks.push(memory(status));
    checks.extend(status.faults.iter().map(|fault| {
        let outcome = Outcome::Wrong(fault.evidence.clone());
        Check::new(format!("fault {}", words::fault(&fault.kind)), outcome, &fault.remedy)
    }));
    if status.operator_hold_until_ms.is_some() {
        let found = "an operator holds it: nothing is mended, restarted or rebooted by itself";
        checks.push(Check::new("hold", Outcome::Wrong(found.into()), "tandem release"));
    }
    checks.push(told("config", "the one in force is the file's", &status.config_refused));
    checks.push(told("ledger", "it is written", &status.ledger_trouble));
    checks
}

fn memory(status: &Status) -> Check {
    let outcome = match &status.memory {
        None => Outcome::Unknown("the host's memory can't be read".into()),
        Some(memory) => {
            let found = format!(
                "{} wired, {} without an owner, leak {}",
                words::bytes(memory.wired_bytes),
                words::bytes(memory.unexplained_bytes),
                memory.leak
            );
            match memory.leak.as_str() {
                "clear" => Outcome::Fine(found),
                "watching" => Outcome::Unknown(found),
                _ => Outcome::Wrong(found),
            }
        }
    };
    Check::new("memory", outcome, "tandem explain leak_confirmed")
}

fn told(name: &str, fine: &str, trouble: &Option<String>) -> Check {
    let outcome = match trouble {
        None => Outcome::Fine(fine.into()),
        Some(why) => Outcome::Wrong(why.clone()),
    };
    Check::new(name, outcome, format!("tandem explain {name}"))
}

pub(super) fn print(out: &mut impl Write, style: &Style, checks: &[Check]) -> io::Result<i32> {
    let (mut fine, mut wrong, mut unknown) = (0, 0, 0);
    for check in checks {
        let (word, color, found) = match &check.outcome {
            Outcome::Fine(found) => ("fine", Color::Good, found),
            Outcome::Wrong(found) => ("WRONG", Color::Bad, found),
            Outcome::Unknown(found) => ("unknown", Color::Warn, found),
        };
        let is_fine = matches!(check.outcome, Outcome::Fine(_));
        match &check.outcome {
            Outcome::Fine(_) => fine += 1,
            Outcome::Wrong(_) => wrong += 1,
            Outcome::Unknown(_) => unknown += 1,
        }
        field(out, style, word, format!("{}: {found}", check.name), Some(color))?;
        if !is_fine && !check.remedy.is_empty() {
            field(out, style, "", format!("do: {}", check.remedy), None)?;
        }
    }
    writeln!(out)?;
    let sum = format!("{} checks: {fine} fine, {wrong} wrong, {unknown} unknown", checks.len());
    line(out, style, &[Span::new(sum)])?;
    Ok(if wrong + unknown == 0 { exit::HEALTHY } else { exit::DEGRADED })
}
