//! Times as people say them.

/// A length of time in its two largest units: `2 h 1 m`.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 86_400, seconds / 3_600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => two(minutes, 'm', seconds % 60, 's'),
        (0, hours, minutes) => two(hours, 'h', minutes % 60, 'm'),
        (days, hours, _) => two(days, 'd', hours % 24, 'h'),
    }
}

fn two(large: u64, large_unit: char, small: u64, small_unit: char) -> String {
    if small == 0 {
        return format!("{large} {large_unit}");
    }
    format!("{large} {large_unit} {small} {small_unit}")
}

/// ISO 8601 in UTC, to the second. A time beyond the calendar is printed as its number.
pub(crate) fn iso(wall_ms: u64) -> String {
    i64::try_from(wall_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{wall_ms} ms"), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Reads `90s`, `30m`, `2h` or `1d` into milliseconds.
///
/// # Errors
///
/// What is wrong with it, for the command line.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    let wanted = || format!("\"{text}\" is no length of time; write 90s, 30m, 2h or 1d");
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match text.get(number.len()..) {
        Some("s") => 1_000,
        Some("m") => 60_000,
        Some("h") => 3_600_000,
        Some("d") => 86_400_000,
        _ => return Err(wanted()),
    };
    // u64 would take a sign, too.
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wanted());
    }
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
    ms.filter(|ms| *ms > 0).ok_or_else(wanted)
}
