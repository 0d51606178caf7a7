//! `tandem gates`: the way from boot to serving.

use std::io::{self, Write};

use tandem_policy::gates::GateState;

use super::{json_part, nodes, words};
use crate::{
    ask::Asked,
    exit,
    print::{Span, Style, Table, field, line},
};

pub(super) fn json(out: &mut impl Write, _: &Style, asked: &Asked) -> io::Result<i32> {
    json_part(out, asked, "gates")?;
    Ok(code(asked))
}

pub(super) fn print(out: &mut impl Write, style: &Style, asked: &Asked) -> io::Result<i32> {
    let gates = &asked.status.gates;
    if gates.is_empty() {
        line(out, style, &[Span::new("the supervisor has tried no gate yet")])?;
        return Ok(code(asked));
    }
    let mut table = Table::new(&["gate", "state", "evidence"]);
    for gate in gates {
        let (state, color) = words::gate_state(gate.state);
        table.row(vec![
            Span::new(words::gate(gate.gate)),
            Span::new(state).color(color),
            Span::new(&gate.evidence),
        ]);
    }
    table.write(out, style)?;
    if let Some(transport) = &asked.status.pair.transport {
        nodes::transport(out, style, transport)?;
    }
    for gate in gates.iter().filter(|gate| gate.state == GateState::Failed) {
        writeln!(out)?;
        field(out, style, "do", format!("{}: {}", words::gate(gate.gate), gate.remedy), None)?;
    }
    Ok(code(asked))
}

fn code(asked: &Asked) -> i32 {
    if asked.is_stale() {
        return exit::UNAVAILABLE;
    }
    let gates = &asked.status.gates;
    let is_through = !gates.is_empty() && gates.iter().all(|g| g.state == GateState::Passed);
    if is_through { exit::HEALTHY } else { exit::DEGRADED }
}
