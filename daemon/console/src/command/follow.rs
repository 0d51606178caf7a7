//! The reader of `GET /events`.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use tandem_policy::Event;

use crate::{ask::AskError, http::KEEP_ALIVE};

/// Longest line of the stream, in bytes: an event's evidence is bounded far below this.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A stream that says nothing for so long is dead: it has missed two comments.
const SILENCE_MAX: Duration = KEEP_ALIVE.saturating_mul(3);

/// Most lines of the answer's head.
const HEAD_LINES_MAX: usize = 64;

/// An open stream.
pub(super) struct Stream {
    lines: BufReader<TcpStream>,
    url: String,
}

/// What it brings.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    Event(Box<Event>),
    /// So many were left out.
    Lagged(u64),
}

/// Opens the stream of a status endpoint.
pub(super) fn open(url: &str) -> Result<Stream, AskError> {
    connect(url).map_err(|error| unreachable(url, &error))
}

fn unreachable(url: &str, error: &io::Error) -> AskError {
    AskError::Unreachable { url: url.to_owned(), why: error.to_string() }
}

fn connect(url: &str) -> io::Result<Stream> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    let host = url
        .trim_end_matches('/')
        .strip_prefix("http://")
        .ok_or_else(|| invalid("the address must begin with http://"))?;
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    // HTTP/1.0 has no chunks, so what follows the head is the events alone.
    write!(stream, "GET /events HTTP/1.0\r\nhost: {host}\r\n\r\n")?;
    let mut stream = Stream { lines: BufReader::new(stream), url: url.to_owned() };
    let first = stream.line()?;
    if first.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("it answered {first}")));
    }
    for _ in 0..HEAD_LINES_MAX {
        if stream.line()?.is_empty() {
            return Ok(stream);
        }
    }
    Err(invalid("the head of the answer has no end"))
}

impl Stream {
    /// Waits for what comes next.
    pub(super) fn next(&mut self) -> Result<Heard, AskError> {
        self.read().map_err(|error| unreachable(&self.url, &error))
    }

    fn read(&mut self) -> io::Result<Heard> {
        let mut is_lagged = false;
        loop {
            let line = self.line()?;
            if line == "event: lagged" {
                is_lagged = true;
            } else if let Some(data) = line.strip_prefix("data: ") {
                if is_lagged {
                    let json: serde_json::Value = serde_json::from_str(data)?;
                    let missed = json.get("missed").and_then(serde_json::Value::as_u64);
                    return Ok(Heard::Lagged(missed.unwrap_or(0)));
                }
                return Ok(Heard::Event(serde_json::from_str(data)?));
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        let read = (&mut self.lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        match read {
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                let why = format!("it has said nothing for {} s", SILENCE_MAX.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(error) => return Err(error),
        }
        if bytes.pop() != Some(b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended"));
        }
        let line = String::from_utf8(bytes).map_err(io::Error::other)?;
        Ok(line.trim_end_matches('\r').to_owned())
    }
}
