//! Connections that made no sense: counted, and written to the log now and then.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Least time between two lines about one address.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Most addresses that are told apart within [`LOG_PAUSE`]; what others do is counted only.
const ADDRESSES_MAX: usize = 64;

/// The count, and when each address was last in the log.
#[derive(Default)]
pub(super) struct Troubles {
    count: AtomicU64,
    logged: Mutex<HashMap<IpAddr, Row>>,
}

struct Row {
    at: Instant,
    untold: u64,
}

impl Troubles {
    /// Notes one.
    pub(super) fn note(&self, address: SocketAddr, problem: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(untold) = self.untold(address.ip(), Instant::now()) {
            tracing::warn!(%address, problem, untold, "a connection was refused");
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many were not told since the last line about an address; `None` if this one is not to be
    /// told either.
    fn untold(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = logged.get_mut(&address) {
            if now.duration_since(row.at) < LOG_PAUSE {
                row.untold += 1;
                return None;
            }
            let untold = std::mem::take(&mut row.untold);
            row.at = now;
            return Some(untold);
        }
        if logged.len() >= ADDRESSES_MAX {
            logged.retain(|_, row| now.duration_since(row.at) < LOG_PAUSE);
        }
        if logged.len() >= ADDRESSES_MAX {
            return None;
        }
        logged.insert(address, Row { at: now, untold: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_once_a_minute_with_what_was_left_out() {
        let troubles = Troubles::default();
        let start = Instant::now();
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse::<IpAddr>().unwrap());
        let rows = [
            (one, 0, Some(0)),
            (one, 1, None),
            (other, 1, Some(0)),
            (one, 59, None),
            (one, 60, Some(2)),
            (one, 61, None),
        ];
        for (address, seconds, expected) in rows {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(troubles.untold(address, now), expected, "{address} after {seconds} s");
        }
    }

    #[test]
    fn a_flood_from_many_addresses_takes_bounded_memory() {
        let troubles = Troubles::default();
        for number in 0..10_000_u32 {
            troubles.note(SocketAddr::from((number.to_be_bytes(), 1)), "x");
        }
        assert_eq!(troubles.count(), 10_000);
        assert_eq!(troubles.logged.lock().unwrap().len(), ADDRESSES_MAX);
    }
}
