//! Who may hold a connection, and who has to give it up. Pure.
//!
//! A place is for a request that has arrived whole. Until then, and between two requests, a
//! connection is only *arriving*: when there is no room it is given up, the longest-waiting one of
//! the address that has the most first. So slow heads, slow bodies and idle connections keep nobody
//! out, and a request that is answered is never cut off for another.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

/// Connections beyond the others, for as long as it takes to read who asks: the supervisor's own
/// requests and `/health` are answered there, all else is turned away.
const RESERVE: usize = 16;

/// Most bytes of requests that have not arrived whole, of all connections together. One of any size
/// that the config allows fits several times.
const ARRIVING_BYTES_MAX: usize = 256 << 20;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A supervisor.
    Canary,
    /// A client with a valid key.
    Keyed,
    /// A client without one, where none is needed.
    Keyless,
}

/// All connections of a process; `T` is what it takes to end one.
pub(crate) struct Connections<T> {
    max: usize,
    open: BTreeMap<u64, Connection<T>>,
    next: u64,
}

struct Connection<T> {
    from: IpAddr,
    is_reserve: bool,
    state: State,
    /// What is kept of a request that has not arrived whole.
    arrived_bytes: usize,
    end: T,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Since this moment, in order of all moments.
    Arriving(u64),
    Answered(Standing),
}

/// A connection was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken<T> {
    pub(crate) id: u64,
    /// Only for those who have a place of their own.
    pub(crate) is_reserve: bool,
    /// One that has to go for it.
    pub(crate) evicted: Option<T>,
}

impl<T> Connections<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, open: BTreeMap::new(), next: 0 }
    }

    /// A new connection; `None`: there is no room whatever.
    pub(crate) fn enter(&mut self, from: IpAddr, end: T) -> Option<Taken<T>> {
        let from = network(from);
        let in_reserve = self.open.values().filter(|one| one.is_reserve).count();
        let is_full = self.open.len() - in_reserve >= self.max;
        let (mut evicted, mut is_reserve) = (None, false);
        if is_full {
            evicted = self.stalest(false);
            is_reserve = evicted.is_none();
            if is_reserve && in_reserve >= RESERVE {
                evicted = Some(self.stalest(true)?);
            }
        }
        let evicted = evicted.and_then(|id| self.open.remove(&id)).map(|gone| gone.end);
        let id = self.tick();
        let state = State::Arriving(id);
        self.open.insert(id, Connection { from, is_reserve, state, arrived_bytes: 0, end });
        Some(Taken { id, is_reserve, evicted })
    }

    /// More of a request arrived. Gives those that have to go for it, or `None` if it has to go
    /// itself: the largest of the address that has the most bytes.
    pub(crate) fn grows(&mut self, id: u64, bytes: usize) -> Option<Vec<T>> {
        let one = self.open.get_mut(&id)?;
        one.arrived_bytes = one.arrived_bytes.saturating_add(bytes);
        let mut evicted = Vec::new();
        while self.open.values().map(|one| one.arrived_bytes).sum::<usize>() > ARRIVING_BYTES_MAX {
            let largest = self.largest().filter(|largest| *largest != id)?;
            evicted.extend(self.open.remove(&largest).map(|gone| gone.end));
        }
        Some(evicted)
    }

    /// The request on a connection has arrived whole; whether there is a place for it.
    pub(crate) fn arrived(&mut self, id: u64, standing: Standing) -> bool {
        let Some(from) = self.open.get(&id).map(|one| one.from) else {
            // It was given up in this moment.
            return false;
        };
        let is_client = |one: &&Connection<T>| {
            one.from == from
                && matches!(one.state, State::Answered(Standing::Keyed | Standing::Keyless))
        };
        let others = self.open.values().filter(is_client).count();
        let max = match standing {
            Standing::Canary => usize::MAX,
            // Never all: others must find a place whatever one address does.
            Standing::Keyed => (self.max * 3).div_ceil(4),
            Standing::Keyless => self.max.div_ceil(2),
        };
        let has_place = others < max;
        if let Some(one) = self.open.get_mut(&id).filter(|_| has_place) {
            one.state = State::Answered(standing);
            one.arrived_bytes = 0;
        }
        has_place
    }

    /// The request on a connection is answered; the connection waits for the next one.
    pub(crate) fn idle(&mut self, id: u64) {
        let now = self.tick();
        if let Some(one) = self.open.get_mut(&id) {
            one.state = State::Arriving(now);
            one.arrived_bytes = 0;
        }
    }

    /// A connection ended.
    pub(crate) fn leave(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// The arriving connection that goes first.
    fn stalest(&self, is_reserve: bool) -> Option<u64> {
        let mut of_address: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for one in self.open.values() {
            *of_address.entry(one.from).or_default() += 1;
        }
        let arriving = self.open.iter().filter_map(|(id, one)| match one.state {
            State::Arriving(since) if one.is_reserve == is_reserve => {
                let crowd = of_address.get(&one.from).copied().unwrap_or_default();
                Some((usize::MAX - crowd, since, *id))
            }
            _ => None,
        });
        arriving.min().map(|(.., id)| id)
    }

    /// The arriving request that goes first for want of memory.
    fn largest(&self) -> Option<u64> {
        let mut of_address: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for one in self.open.values() {
            *of_address.entry(one.from).or_default() += one.arrived_bytes;
        }
        let of_crowd = |one: &Connection<T>| of_address.get(&one.from).copied();
        self.open
            .iter()
            .filter(|(_, one)| one.arrived_bytes > 0)
            .max_by_key(|(id, one)| (of_crowd(one), one.arrived_bytes, **id))
            .map(|(id, _)| *id)
    }

    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// What counts as one address: the whole network where a host has as many as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 8;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// Enters and takes its id.
    fn enter(all: &mut Connections<u32>, from: u8, name: u32) -> u64 {
        all.enter(address(from), name).unwrap().id
    }

    #[test]
    fn whoever_only_holds_a_connection_makes_room_and_the_crowd_goes_first() {
        let mut all = Connections::new(MAX);
        let patient = enter(&mut all, 2, 99);
        for name in 0..200 {
            let taken = all.enter(address(1), name).unwrap();
            assert!(!taken.is_reserve);
            // The one of another address is older than all of these, and stays.
            let expected = (name as usize >= MAX - 1).then(|| name - (MAX as u32 - 1));
            assert_eq!(taken.evicted, expected);
        }
        assert!(all.arrived(patient, Standing::Keyless));
        let fresh = all.enter(address(1), 300).unwrap();
        assert!(all.arrived(fresh.id, Standing::Keyless), "whole at once, so it has a place");
        for name in 400..500 {
            assert_ne!(all.enter(address(1), name).unwrap().evicted, Some(300), "it is answered");
        }
        all.idle(fresh.id);
        let gone = (500..520).filter_map(|name| all.enter(address(1), name).unwrap().evicted);
        assert!(gone.collect::<Vec<_>>().contains(&300), "idle again, it is one of them");
    }

    #[test]
    fn no_address_takes_all_places_and_a_key_gives_more() {
        for (standing, places) in [(Standing::Keyless, 4), (Standing::Keyed, 6)] {
            let mut all = Connections::new(MAX);
            let ids: Vec<u64> = (0..8).map(|name| enter(&mut all, 1, name)).collect();
            let placed = ids.iter().filter(|id| all.arrived(**id, standing)).count();
            assert_eq!(placed, places, "{standing:?}");
            let other = enter(&mut all, 2, 100);
            assert!(all.arrived(other, standing), "another address finds one");
            all.leave(ids[0]);
            let next = enter(&mut all, 1, 101);
            assert!(all.arrived(next, standing), "and so does it, when one of its own ends");
        }
    }

    #[test]
    fn when_all_are_answered_there_is_still_room_to_ask_who_comes() {
        let mut all = Connections::new(MAX);
        for name in 0..MAX as u32 {
            let id = enter(&mut all, name as u8, name);
            assert!(all.arrived(id, Standing::Keyed));
        }
        let canary = all.enter(address(50), 50).unwrap();
        assert_eq!((canary.is_reserve, canary.evicted), (true, None));
        assert!(all.arrived(canary.id, Standing::Canary));
        for name in 100..400 {
            let taken = all.enter(address(9), name).unwrap();
            assert!(taken.is_reserve);
            assert_eq!(taken.evicted.is_some(), name >= 100 + RESERVE as u32 - 1);
            assert!(all.open.len() <= MAX + RESERVE);
        }
        let ids: Vec<u64> = all.open.keys().copied().collect();
        for id in ids {
            all.arrived(id, Standing::Canary);
        }
        assert_eq!(all.enter(address(9), 500), None);
    }

    #[test]
    fn what_is_still_arriving_is_bounded_in_bytes_and_the_largest_share_goes_first() {
        const PART: usize = ARRIVING_BYTES_MAX / 8;
        let mut all = Connections::new(MAX);
        let honest = enter(&mut all, 2, 99);
        assert_eq!(all.grows(honest, PART), Some(vec![]));
        let hoarders: Vec<u64> = (0..7).map(|name| enter(&mut all, 1, name)).collect();
        for id in &hoarders {
            assert_eq!(all.grows(*id, PART), Some(vec![]), "as much as there is");
        }
        // One byte more of the honest one: a hoarder goes, though the honest one is as large.
        assert_eq!(all.grows(honest, 1), Some(vec![6]));
        assert_eq!(all.grows(hoarders[0], 2 * PART), None, "and of a hoarder: it goes itself");
        all.leave(hoarders[0]);
        // Whole, it is another's to bound; and so is the next on the same connection.
        assert!(all.arrived(honest, Standing::Keyless));
        assert_eq!(all.grows(hoarders[1], 2 * PART), Some(vec![]));
        all.idle(honest);
        assert_eq!(all.grows(honest, PART), Some(vec![]));
        assert_eq!(all.grows(1_000, 1), None, "one that was given up");
    }

    #[test]
    fn one_host_is_one_address_however_many_it_has() {
        let v6 = |text: &str| network(text.parse().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_eq!(v6("::ffff:10.0.0.1"), address(1));
        assert_ne!(v6("::1"), v6("::2"));
    }
}
