//! The nodes of a pair, the ways between them, and what their ranks measured.

use std::io::{self, Write};

use tandem_policy::pair::{NodeStatus, PairStatus, Role, TransportStatus};

use crate::print::{Color, Span, Style, Table, field, time::span};

/// What `tandem status` shows of the nodes; nothing where there is one.
pub(super) fn print(out: &mut impl Write, style: &Style, pair: &PairStatus) -> io::Result<()> {
    if pair.role == Role::Alone {
        return Ok(());
    }
    writeln!(out)?;
    nodes(&pair.nodes).write(out, style)?;
    let ways: Vec<_> = pair
        .nodes
        .iter()
        .flat_map(|node| node.paths.iter().map(move |path| (node, path)))
        .collect();
    if !ways.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["way to", "address", "state", "round trip", "throughput"]);
        for (node, path) in ways {
            let (state, color) = match path.is_up {
                true => ("up".to_owned(), Color::Good),
                false => (format!("down: {}", path.problem), Color::Bad),
            };
            table.row(vec![
                Span::new(&node.name),
                Span::new(&path.address),
                Span::new(state).color(color),
                Span::new(path.round_trip_us.map_or("-".into(), |us| format!("{us} µs"))),
                Span::new(path.throughput_mbps.map_or("-".into(), |mbps| format!("{mbps} Mbit/s"))),
            ]);
        }
        table.write(out, style)?;
    }
    for node in &pair.nodes {
        for difference in &node.differences {
            field(out, style, "differs", format!("{}: {difference}", node.name), Some(Color::Bad))?;
        }
        for told in &node.faults {
            if !node.is_self {
                let text = format!(
                    "{}: {}: {}",
                    node.name,
                    super::words::fault(&told.kind),
                    told.evidence
                );
                field(out, style, "there", text, Some(Color::Warn))?;
            }
        }
    }
    Ok(())
}

/// This node's part, in words.
pub(super) fn role(pair: &PairStatus) -> Option<(String, Option<Color>)> {
    let part = match pair.role {
        Role::Alone => return None,
        Role::Leader => "has rank 0",
        Role::Follower => "passes requests on to the node with rank 0",
    };
    Some(match (&pair.why_alone, &pair.hindrance) {
        (Some(why), _) => {
            (format!("serves the fallback model {}: {why}", pair.mode), Some(Color::Warn))
        }
        (None, Some(hindrance)) => (format!("{part}; {hindrance}"), Some(Color::Warn)),
        (None, None) => (part.to_owned(), None),
    })
}

fn nodes(nodes: &[NodeStatus]) -> Table {
    let mut table =
        Table::new(&["node", "heard", "ranks", "epoch", "phase", "tokens came", "boot"]);
    for node in nodes {
        let heard = match (node.is_self, node.is_paired, node.heard_age_ms) {
            (true, ..) => ("this one".to_owned(), None),
            (_, false, _) => ("not paired".to_owned(), Some(Color::Bad)),
            (_, _, None) => ("never".to_owned(), Some(Color::Bad)),
            (_, _, Some(_)) if node.is_heard => ("yes".to_owned(), Some(Color::Good)),
            (_, _, Some(age_ms)) => (format!("{} ago", span(age_ms)), Some(Color::Bad)),
        };
        let ranks: Vec<String> =
            node.ranks.iter().map(|rank| format!("{} {}", rank.rank, rank.phase)).collect();
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let heard_cell = Span::new(heard.0);
        table.row(vec![
            Span::new(&node.name),
            match heard.1 {
                Some(color) => heard_cell.color(color),
                None => heard_cell,
            },
            Span::new(ranks.join(", ")),
            Span::new(or_dash(node.epoch.map(|epoch| epoch.to_string()))),
            Span::new(or_dash(node.phase.clone())),
            Span::new(or_dash(node.proven_age_ms.map(|ms| format!("{} ago", span(ms))))),
            // Enough of it to see that it changed.
            Span::new(or_dash(node.boot.as_ref().map(|boot| boot.chars().take(8).collect()))),
        ]);
    }
    table
}

/// What the ranks measured of their group at its start, as a table.
pub(super) fn transport(
    out: &mut impl Write,
    style: &Style,
    transport: &TransportStatus,
) -> io::Result<()> {
    writeln!(out)?;
    let title = format!("{} over {} ranks", transport.backend, transport.world);
    let mut table = Table::new(&[&title, "median", "best", "bandwidth", "sums timed"]);
    for row in &transport.rows {
        table.row(vec![
            Span::new(size(row.bytes)),
            Span::new(time(row.median_ns)),
            Span::new(time(row.best_ns)),
            Span::new(bandwidth(row.bytes, row.median_ns)),
            Span::new(row.rounds.to_string()),
        ]);
    }
    table.write(out, style)
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

fn time(ns: u64) -> String {
    if ns < 1_000_000 {
        format!("{}.{} µs", ns / 1_000, ns % 1_000 / 100)
    } else {
        format!("{}.{:02} ms", ns / 1_000_000, ns % 1_000_000 / 10_000)
    }
}

/// Bytes that each rank contributed, by the median time; in units of 10^9 bytes a second.
fn bandwidth(bytes: u64, median_ns: u64) -> String {
    let hundredths = bytes.saturating_mul(100).checked_div(median_ns).unwrap_or(0);
    format!("{}.{:02} GB/s", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_shown_in_the_units_that_people_compare() {
        assert_eq!((size(4 << 10), size(64 << 20)), ("4 KiB".into(), "64 MiB".into()));
        assert_eq!((time(25_540), time(7_604_000)), ("25.5 µs".into(), "7.60 ms".into()));
        assert_eq!(bandwidth(64 << 20, 8_450_000), "7.94 GB/s");
        assert_eq!(bandwidth(1, 0), "0.00 GB/s", "nothing was timed");
    }
}
