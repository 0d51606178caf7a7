//! How many wrong codes an offer takes, and from whom how soon. Pure: the caller has the clock.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Wrong codes after which an offer ends. Five leave room for typing badly.
pub(super) const WRONG_MAX: u32 = 5;

/// Whom a connection is counted for: its IPv4 address, or the /64 network of its IPv6 address,
/// because one machine may take any address of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        })
    }
}

/// The wrong codes of one offer.
#[derive(Clone, Debug)]
pub(super) struct Attempts {
    /// Pause of a source after its first wrong code; each further one doubles it.
    first_pause: Duration,
    wrong: u32,
    /// Who was wrong, how often, and until when since the offer began it has to wait; at most
    /// [`WRONG_MAX`] rows, because each is a wrong code.
    paused: Vec<(Source, u32, Duration)>,
}

impl Attempts {
    pub(super) fn new(first_pause: Duration) -> Self {
        Self { first_pause, wrong: 0, paused: Vec::new() }
    }

    /// How long this source still has to wait before it may try; `None` if it may now.
    pub(super) fn pause(&self, source: Source, now: Duration) -> Option<Duration> {
        let (.., until) = self.paused.iter().find(|(who, ..)| *who == source)?;
        until.checked_sub(now).filter(|rest| !rest.is_zero())
    }

    /// Counts a wrong code; returns how many more the offer takes.
    pub(super) fn wrong(&mut self, source: Source, now: Duration) -> u32 {
        self.wrong = self.wrong.saturating_add(1);
        if let Some((_, count, until)) = self.paused.iter_mut().find(|(who, ..)| *who == source) {
            *until = now + self.first_pause * (1 << (*count).min(WRONG_MAX));
            *count = count.saturating_add(1);
        } else {
            self.paused.push((source, 1, now + self.first_pause));
        }
        self.left()
    }

    /// How many more wrong codes the offer takes.
    pub(super) fn left(&self) -> u32 {
        WRONG_MAX.saturating_sub(self.wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn each_wrong_code_doubles_the_pause_of_its_source_and_of_no_other() {
        let (one, other) =
            (Source::of("10.0.0.1".parse().unwrap()), Source::of("10.0.0.2".parse().unwrap()));
        let mut attempts = Attempts::new(seconds(1));
        assert_eq!(attempts.pause(one, seconds(0)), None);
        let mut now = seconds(100);
        for (left, pause) in [(4, 1), (3, 2), (2, 4), (1, 8), (0, 16)] {
            assert_eq!(attempts.wrong(one, now), left);
            assert_eq!(attempts.pause(one, now), Some(seconds(pause)));
            assert_eq!(attempts.pause(other, now), None);
            now += seconds(pause);
            assert_eq!(attempts.pause(one, now), None, "the pause ends");
        }
    }

    #[test]
    fn an_offer_ends_after_five_wrong_codes_whoever_sent_them() {
        let mut attempts = Attempts::new(seconds(1));
        for n in 1..=WRONG_MAX {
            let source = Source::of(IpAddr::from([10, 0, 0, n as u8]));
            assert_eq!(attempts.wrong(source, seconds(0)), WRONG_MAX - n);
        }
        assert_eq!(attempts.left(), 0);
    }

    #[test]
    fn one_machine_is_one_source_however_many_addresses_it_has() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("fe80::1"), of("fe80::2:3"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
