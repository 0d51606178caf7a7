//! What HTTP can say of a clock.

use std::{
    fmt::Display,
    future::poll_fn,
    pin::Pin,
    task::Poll,
    time::{SystemTime, UNIX_EPOCH},
};

/// Serves a connection for as long as the clock is one that HTTP can say: hyper writes the date into each
/// answer, and panics at one that HTTP has no words for.
///
/// # Errors
///
/// What the connection ended with, or that the clock is not such a one.
pub async fn while_dated<E: Display>(
    mut connection: Pin<&mut impl Future<Output = Result<(), E>>>,
) -> Result<(), String> {
    poll_fn(|context| match is_date(SystemTime::now()) {
        true => connection.as_mut().poll(context).map_err(|error| error.to_string()),
        false => Poll::Ready(Err("the clock is before 1970 or after 9999".into())),
    })
    .await
}

/// Whether HTTP can say this time: IMF-fixdate has four digits for the year (RFC 9110, 5.6.7).
pub fn is_date(now: SystemTime) -> bool {
    /// The beginning of the year 9999, in seconds since 1970: no one waits for its last day.
    const LAST_S: u64 = 253_370_764_800;
    now.duration_since(UNIX_EPOCH).is_ok_and(|since| since.as_secs() < LAST_S)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_that_http_can_not_say_is_none() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(is_date(UNIX_EPOCH) && is_date(at(1_800_000_000)));
        // 9999-12-31T23:59:59Z is the last that httpdate takes.
        for seconds in [253_402_300_800, 300_000_000_000, 1 << 40] {
            assert!(!is_date(at(seconds)), "{seconds}");
        }
        assert!(!is_date(UNIX_EPOCH - Duration::from_secs(1)));
    }
}
