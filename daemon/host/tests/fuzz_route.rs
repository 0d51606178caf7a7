//! The walk over routing messages, on messages made at random, cut anywhere, damaged, and on noise.
//! It always ends, never goes back or past the end, and reads what was written.

use std::net::Ipv4Addr;

use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use tandem_host::mac::{
    Unparsed,
    route::{self, Message},
};

/// As for the parsers of text.
const CASES: u32 = 2_000;

/// A runner that tries the same cases at every run.
fn runner() -> TestRunner {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// A message's bytes: length, version 5 and type, addresses' mask, flags, number and the rest.
fn bytes(kind: u8, which: u32, flags: u32, index: u16, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(14 + rest.len()).unwrap_or(u16::MAX);
    let fields = [which.to_le_bytes(), flags.to_le_bytes()].concat();
    [&length.to_le_bytes()[..], &[5, kind], &fields, &index.to_le_bytes(), rest].concat()
}

/// A message and what it says.
fn message() -> impl Strategy<Value = (Vec<u8>, Message)> {
    let numbers = || (any::<u16>(), any::<u32>(), any::<u32>(), any::<[u8; 4]>());
    // `if_msghdr` with the MTU at 24 of 112, `if_msghdr2` with it at 40 of 160, and then some.
    let list = prop_oneof![Just((0xe_u8, 24_usize, 112_usize)), Just((0x12, 40, 160))];
    let interface =
        (numbers(), list, 0..32_usize).prop_map(|((index, flags, mtu_bytes, _), l, more)| {
            let (kind, mtu_at, size) = l;
            let mtu = mtu_bytes.to_le_bytes().to_vec();
            let rest = [vec![7; mtu_at - 14], mtu, vec![7; size - mtu_at - 4 + more]].concat();
            (bytes(kind, 0, flags, index, &rest), Message::Interface { index, flags, mtu_bytes })
        });
    let address =
        (numbers(), any::<bool>(), 0..32_u32, 0..32_u8).prop_map(|(a, added, before, size)| {
            let (index, flags, _, octets) = a;
            // Addresses of any length stand before ours, one for each bit below its own.
            let other = vec![size; usize::from(size).max(1).next_multiple_of(4)];
            let ours = [&[16, 2, 0, 0], &octets[..], &[0; 8]].concat();
            let rest = [vec![0; 6], other.repeat(before.count_ones() as usize), ours].concat();
            let (kind, ipv4) = (if added { 0xc } else { 0xd }, Some(Ipv4Addr::from(octets)));
            let said = if added {
                Message::AddressAdded { index, ipv4 }
            } else {
                Message::AddressDeleted { index, ipv4 }
            };
            (bytes(kind, before | 0x20, flags, index, &rest), said)
        });
    let other = (numbers(), 0x1f..=255_u8, vec(any::<u8>(), 0..64))
        .prop_map(|(a, kind, rest)| (bytes(kind, a.1, a.2, a.0, &rest), Message::Other { kind }));
    prop_oneof![interface, address, other]
}

type Walked = (Vec<Message>, Option<Unparsed>);

/// Walks to the end, and sees that every step goes forward by at least a header.
fn walk(bytes: &[u8]) -> Result<Walked, TestCaseError> {
    let mut messages = route::messages(bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let mut seen = Vec::new();
    loop {
        let before = messages.rest_bytes();
        match messages.next() {
            None => {
                prop_assert_eq!(before, 0, "it stopped early");
                return Ok((seen, None));
            }
            Some(Ok(message)) => {
                prop_assert!(messages.rest_bytes() + 4 <= before, "it did not go on");
                seen.push(message);
            }
            Some(Err(error)) => {
                prop_assert_eq!(messages.next(), None, "it went on after an error");
                prop_assert!(error.to_string().len() < 800, "{}", error);
                return Ok((seen, Some(error)));
            }
        }
    }
}

#[test]
fn messages_are_read_as_they_were_written() {
    let outcome = runner().run(&vec(message(), 0..12), |written| {
        let all: Vec<u8> = written.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let said: Vec<Message> = written.iter().map(|(_, said)| *said).collect();
        prop_assert_eq!(walk(&all)?, (said, None));
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}

#[test]
fn a_read_that_is_cut_gives_the_whole_messages_before_the_cut_and_an_error() {
    let outcome = runner().run(&(vec(message(), 1..12), any::<Index>()), |(written, cut)| {
        let all: Vec<u8> = written.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let cut = cut.index(all.len());
        let mut end = 0;
        let mut whole = Vec::new();
        for (bytes, said) in &written {
            if end + bytes.len() > cut {
                break;
            }
            end += bytes.len();
            whole.push(*said);
        }
        let (seen, error) = walk(&all[..cut])?;
        prop_assert_eq!(seen, whole);
        prop_assert_eq!(error.is_some(), cut > end, "cut at {} of {}", cut, all.len());
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}

#[test]
fn damaged_messages_and_noise_end_the_walk_or_are_walked_to_the_end() {
    let flips = vec((any::<Index>(), any::<u8>()), 0..6);
    let damaged = (vec(message(), 1..8), flips).prop_map(|(written, flips)| {
        let mut all: Vec<u8> = written.into_iter().flat_map(|(bytes, _)| bytes).collect();
        let length = all.len();
        flips.iter().for_each(|(at, byte)| all[at.index(length)] = *byte);
        all
    });
    // Lengths and versions are seldom right by chance.
    let short = vec(prop_oneof![Just(0), Just(4), Just(5), Just(16), any::<u8>()], 0..200);
    let outcome = runner().run(&prop_oneof![damaged, short, vec(any::<u8>(), 0..400)], |bytes| {
        let (seen, _) = walk(&bytes)?;
        prop_assert!(seen.len() <= bytes.len() / 4, "{} messages", seen.len());
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}
