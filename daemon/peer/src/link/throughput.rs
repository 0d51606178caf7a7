//! How fast a path is: a short burst when it comes up.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::message::{self, FRAME_BYTES_MAX, Message, WireError};

/// Bytes after one [`Message::Bulk`].
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Bytes that may be on their way at once: fills 10 Gbit/s over 0.8 ms, and on a path of 10 Mbit/s
/// keeps a report waiting for no more than a second.
const WINDOW_BYTES: usize = 1 << 20;

/// Most bytes of a measurement, and so of a connection: 13 ms of 10 Gbit/s.
pub(super) const BURST_BYTES: usize = 16 << 20;

/// When a measurement stops sending.
const BURST: Duration = Duration::from_millis(500);

/// Least time between two measurements of a path.
const PAUSE: Duration = Duration::from_secs(600);

/// When to measure one path.
#[derive(Default)]
pub(super) struct Schedule {
    tried: Option<Instant>,
    is_measured: bool,
}

impl Schedule {
    /// Whether to measure a path that has just come up. While ranks serve only what was never
    /// measured is: their activations may share the path.
    pub(super) fn is_due(&self, now: Instant, is_serving: bool) -> bool {
        let is_time = self.tried.is_none_or(|at| now.duration_since(at) >= PAUSE);
        is_time && !(self.is_measured && is_serving)
    }

    /// Notes that it is tried, whatever comes of it: a path that breaks under the burst must not
    /// be broken by it again and again.
    pub(super) fn start(&mut self, now: Instant) {
        self.tried = Some(now);
    }

    /// Notes that it was measured.
    pub(super) fn done(&mut self) {
        self.is_measured = true;
    }
}

/// Sends a burst; the throughput in megabits per second.
pub(super) async fn measure(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<u64, WireError> {
    let chunk = vec![0; CHUNK_BYTES];
    let header = message::encode(&Message::Bulk { size_bytes: CHUNK_BYTES as u32 })?;
    let start = Instant::now();
    let (mut sent, mut received) = (0, 0);
    while sent < BURST_BYTES && start.elapsed() < BURST {
        if sent - received >= WINDOW_BYTES {
            done(stream).await?;
            received += CHUNK_BYTES;
        }
        stream.write_all(&header).await?;
        stream.write_all(&chunk).await?;
        stream.flush().await?;
        sent += CHUNK_BYTES;
    }
    while received < sent {
        done(stream).await?;
        received += CHUNK_BYTES;
    }
    let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    // Bits per microsecond are megabits per second.
    Ok((received as u64 * 8 / took_us).max(1))
}

async fn done(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), WireError> {
    match message::read(stream, FRAME_BYTES_MAX).await? {
        Message::BulkDone {} => Ok(()),
        other => Err(WireError::unexpected(&other)),
    }
}

/// Reads what follows a [`Message::Bulk`] and throws it away.
pub(super) async fn swallow(
    stream: &mut (impl AsyncRead + Unpin),
    size_bytes: usize,
) -> Result<(), WireError> {
    let mut chunk = vec![0; size_bytes.min(CHUNK_BYTES)];
    stream.read_exact(&mut chunk).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_measured_when_it_comes_up_but_not_often_and_not_while_it_is_needed() {
        let start = Instant::now();
        // Seconds, whether ranks serve, whether it is due, whether it then succeeds.
        let rows = [
            (0, true, true, false),
            (1, false, false, false),
            (599, false, false, false),
            (600, true, true, true),
            (1_200, true, false, false),
            (1_201, false, true, true),
            (1_202, false, false, false),
        ];
        let mut schedule = Schedule::default();
        for (seconds, is_serving, is_due, succeeds) in rows {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(schedule.is_due(now, is_serving), is_due, "after {seconds} s");
            if is_due {
                schedule.start(now);
            }
            if succeeds {
                schedule.done();
            }
        }
    }
}
