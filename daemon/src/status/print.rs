//! The status for a terminal.

use std::fmt::Write;

use tandem_policy::{Health, RankStatus, Status};

/// The status as aligned lines; coloured only if asked.
pub fn human(status: &Status, colour: bool) -> String {
    let mut text = String::new();
    let (word, code) = match status.health {
        Health::Healthy => ("healthy", 32),
        Health::Degraded => ("degraded", 33),
        Health::NotServing => ("not serving", 31),
    };
    let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.into() };
    // Writing to a String can't fail.
    let _ =
        writeln!(text, "{:<9}{word}{}", status.node, if status.draining { ", ending" } else { "" });
    let _ = writeln!(text, "{:<9}{}", "model", status.model);
    let age = duration(status.phase_age_ms);
    let _ = writeln!(text, "{:<9}{} for {age}, epoch {}", "ranks", status.phase, status.epoch);
    let ready = match status.gateway.ready {
        Some(true) => "ready",
        Some(false) => "not ready",
        None => "silent",
    };
    let pid = status.gateway.pid.map_or(String::new(), |pid| format!(", process {pid}"));
    let _ = writeln!(
        text,
        "{:<9}{}, {ready}, http://{}{pid}",
        "gateway", status.gateway.phase, status.gateway.listen
    );
    if let Some(exit) = &status.gateway.last_exit {
        let _ = writeln!(text, "{:<9}last gateway: {exit}", "");
    }
    let _ = writeln!(
        text,
        "{:<9}{} of {} in this window",
        "restarts", status.restarts, status.restarts_max
    );
    if let Some(failure) = &status.last_failure {
        let _ = writeln!(text, "{:<9}{failure}", "failure");
    }
    if let Some(held) = &status.held {
        let _ = writeln!(text, "{:<9}{held}", "held");
    }
    for leak in &status.suspected_leaks {
        let _ = writeln!(
            text,
            "{:<9}rank {} (process {}, epoch {}) was killed; it may have stranded memory",
            "leak?", leak.rank, leak.pid, leak.epoch
        );
    }
    text.push('\n');
    table(&mut text, &status.ranks);
    text
}

fn table(text: &mut String, ranks: &[RankStatus]) {
    let head = ["rank", "pid", "phase", "steps", "tokens", "active", "memory", "peak", "last exit"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let number = |n: Option<u64>| n.map_or("-".into(), |n| n.to_string());
    let bytes = |n: Option<u64>| n.map_or("-".into(), mebibytes);
    rows.extend(ranks.iter().map(|rank| {
        vec![
            rank.rank.to_string(),
            number(rank.pid.map(u64::from)),
            rank.phase.clone(),
            number(rank.steps),
            number(rank.tokens),
            number(rank.active.map(u64::from)),
            bytes(rank.memory_bytes),
            bytes(rank.memory_peak_bytes),
            rank.last_exit.clone().unwrap_or_else(|| "-".into()),
        ]
    }));
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 86_400, seconds / 3_600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let cases = [(999, "0 s"), (61_000, "1 min 1 s"), (7_260_000, "2 h 1 min")];
        for (ms, expected) in cases {
            assert_eq!(duration(ms), expected);
        }
        assert_eq!(duration(90_000_000), "1 d 1 h");
    }
}
