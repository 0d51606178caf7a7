//! `tandem status --watch`.

use std::{
    future::Future,
    io::{self, Write},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{Context, status, words};
use crate::{
    Terminal,
    ask::{self, AskError, Asked},
    exit,
    print::{Span, Style, escape_json, line, time::iso},
};

/// Between two looks: the supervisor's own pace.
const PERIOD: Duration = Duration::from_secs(1);

/// Enters the alternate screen and hides the cursor; [`LEAVE`] takes both back (xterm's control
/// sequences, DECSET 1049 and 25).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Looks every second until the process is asked to end.
pub(super) fn run(context: &Context<'_>, as_json: bool, out: &mut impl Write) -> io::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate, mut hangup) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        );
        let asked = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        };
        let look = || ask::status(context.url);
        if context.terminal == Terminal::Able && !as_json {
            screen(&context.style, look, asked, out).await
        } else {
            lines(&context.style, as_json, look, asked, out).await
        }
    })
}

type Looked = Result<Asked, AskError>;

/// The whole status, again and again on the same screen. However it ends, the screen is restored.
pub(super) async fn screen(
    style: &Style,
    mut look: impl FnMut() -> Looked,
    end: impl Future<Output = ()>,
    out: &mut impl Write,
) -> io::Result<i32> {
    tokio::pin!(end);
    out.write_all(ENTER.as_bytes())?;
    let shown = loop {
        let looked = look();
        if let Err(error) = frame(&now(style), &looked, out) {
            break Err(error);
        }
        if is_over(&mut end).await {
            break Ok(code(&looked));
        }
    };
    out.write_all(LEAVE.as_bytes())?;
    out.flush()?;
    shown
}

/// One frame, written at once so that it does not flicker.
fn frame(style: &Style, looked: &Looked, out: &mut impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    match looked {
        Ok(asked) => {
            status::print(&mut text, style, asked)?;
        }
        Err(error) => {
            for row in error.to_string().lines() {
                line(&mut text, style, &[Span::new(row)])?;
            }
        }
    }
    // From the top, each line cleared to its end, and all below the last.
    let mut frame = b"\x1b[H".to_vec();
    for row in text.split_inclusive(|byte| *byte == b'\n') {
        frame.extend(row.strip_suffix(b"\n").unwrap_or(row));
        frame.extend(b"\x1b[K\r\n");
    }
    frame.extend(b"\x1b[J");
    out.write_all(&frame)?;
    out.flush()
}

/// A line every second, for what is no terminal.
pub(super) async fn lines(
    style: &Style,
    as_json: bool,
    mut look: impl FnMut() -> Looked,
    end: impl Future<Output = ()>,
    out: &mut impl Write,
) -> io::Result<i32> {
    tokio::pin!(end);
    loop {
        let looked = look();
        match &looked {
            Ok(asked) if as_json => writeln!(out, "{}", escape_json(&asked.json))?,
            looked => line(out, style, &[Span::new(one_line(&now(style), looked))])?,
        }
        out.flush()?;
        if is_over(&mut end).await {
            return Ok(code(&looked));
        }
    }
}

/// The status in one line.
pub(super) fn one_line(style: &Style, looked: &Looked) -> String {
    let at = iso(style.now_wall_ms);
    let asked = match looked {
        Ok(asked) => asked,
        Err(error) => return format!("{at} {}", error.to_string().lines().next().unwrap_or("")),
    };
    let status = &asked.status;
    let (health, _) = status::health(status.health);
    let stale = if asked.is_stale() { " STALE" } else { "" };
    let mut text = format!(
        "{at} {}{stale} {health}, {} epoch {}, {}",
        status.node,
        status.phase,
        status.epoch,
        status::proof(status)
    );
    if let Some(fault) = status.faults.first() {
        text.push_str(&format!(
            ", {} faults, first {}",
            status.faults.len(),
            words::fault(&fault.kind)
        ));
    }
    text
}

/// Waits for the next look; true if there is to be none.
async fn is_over(end: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    tokio::time::timeout(PERIOD, end).await.is_ok()
}

fn code(looked: &Looked) -> i32 {
    looked.as_ref().map_or(exit::UNAVAILABLE, Asked::exit_code)
}

/// The style with the time as it is now.
fn now(style: &Style) -> Style {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    Style { now_wall_ms: u64::try_from(now_ms).unwrap_or(0), ..*style }
}
