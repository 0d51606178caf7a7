//! Children's output, line by line, into our own log.

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tracing::{debug, error, info, trace, warn};

use super::child::Who;

/// Longest line that is passed on; the rest of it is dropped. Long enough for any stack frame.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Passes on all lines until the other side closes.
pub(super) async fn forward(who: Who, epoch: u64, output: impl AsyncRead + Unpin) {
    let mut output = BufReader::new(output);
    while let Some(line) = next_line(&mut output).await {
        emit(who, epoch, &line);
    }
}

/// The next line without its end, cut to [`LINE_BYTES_MAX`]; `None` at the end.
async fn next_line(output: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    let mut dropped = 0_usize;
    let mut any = false;
    loop {
        let available = match output.fill_buf().await {
            Ok(available) if !available.is_empty() => available,
            _ if any => break,
            _ => return None,
        };
        any = true;
        let (piece, used, ends) = match available.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&available[..end], end + 1, true),
            None => (available, available.len(), false),
        };
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&piece[..piece.len().min(room)]);
        dropped += piece.len().saturating_sub(room);
        output.consume(used);
        if ends {
            break;
        }
    }
    let mut line = String::from_utf8_lossy(&line).trim_end().to_owned();
    if dropped > 0 {
        line.push_str(&format!(" … ({dropped} more bytes)"));
    }
    Some(line)
}

/// Logs a line at the level its own writer gave it.
fn emit(who: Who, epoch: u64, line: &str) {
    let (level, text) = split_level(line);
    if text.is_empty() {
        return;
    }
    macro_rules! at {
        ($log:ident) => {
            match who {
                Who::Gateway => $log!(role = "gateway", "{text}"),
                Who::Rank(rank) => $log!(role = "rank", rank, epoch, "{text}"),
            }
        };
    }
    match level {
        "ERROR" => at!(error),
        "WARN" => at!(warn),
        "DEBUG" => at!(debug),
        "TRACE" => at!(trace),
        _ => at!(info),
    }
}

/// Our own processes begin each line with its level; a line of a library or a panic does not.
fn split_level(line: &str) -> (&str, &str) {
    let trimmed = line.trim_start();
    match trimmed.split_once(' ') {
        Some((level @ ("ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE"), text)) => {
            (level, text.trim_start())
        }
        _ => ("INFO", line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_split_cut_and_never_lost() {
        let long = "x".repeat(LINE_BYTES_MAX + 5);
        let text = format!("one\r\n\n{long}\nlast without end");
        let mut output = BufReader::with_capacity(100, text.as_bytes());
        assert_eq!(next_line(&mut output).await.unwrap(), "one");
        assert_eq!(next_line(&mut output).await.unwrap(), "");
        let cut = next_line(&mut output).await.unwrap();
        assert!(cut.ends_with("x … (5 more bytes)") && cut.len() < LINE_BYTES_MAX + 40);
        assert_eq!(next_line(&mut output).await.unwrap(), "last without end");
        assert_eq!(next_line(&mut output).await, None);
    }

    #[test]
    fn a_line_keeps_its_own_level() {
        assert_eq!(split_level(" WARN slow disk"), ("WARN", "slow disk"));
        assert_eq!(split_level("ERROR x: y"), ("ERROR", "x: y"));
        assert_eq!(split_level("thread 'main' panicked"), ("INFO", "thread 'main' panicked"));
    }
}
