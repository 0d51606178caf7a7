//! A budget as people read it.

use std::fmt::Write as _;

use super::{Budget, mib};

/// One column a rank, named; MiB, rounded up.
pub fn table(columns: &[(String, Budget)]) -> String {
    type Row = (&'static str, fn(&Budget) -> u64);
    let rows: [Row; 6] = [
        ("weights", |b| b.weights_bytes),
        ("KV cache", |b| b.kv_cache_bytes),
        ("prefill peak", |b| b.prefill_peak_bytes),
        ("fixed", |b| b.fixed_bytes),
        ("(while loading)", |b| b.loading_bytes),
        ("total", Budget::total),
    ];
    let width = columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(10);
    let mut text = format!("{:<16}", "MiB");
    for (name, _) in columns {
        let _ = write!(text, "  {name:>width$}");
    }
    text.push('\n');
    for (label, value) in rows {
        let _ = write!(text, "{label:<16}");
        for (_, budget) in columns {
            let _ = write!(text, "  {:>width$}", mib(value(budget)));
        }
        text.push('\n');
    }
    text
}
