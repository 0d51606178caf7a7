//! What is shown of two machines.

use tandem_policy::Health;

use super::*;
use crate::{
    command::{fixtures, gates, status},
    exit,
};

#[test]
fn a_pair_is_shown_with_its_machines_and_the_ways_between_them() {
    let status = fixtures::paired();
    let (code, text) = printed(|out| status::print(out, &plain(), &asked(&status)));
    assert_eq!(code, 0);
    for line in [
        "pair       has rank 0",
        "node      heard     ranks    epoch  phase    tokens came  boot",
        "studio-1  this one  0 ready  3      serving  12 s ago     9D3F",
        "studio-2  yes       1 ready  3      serving  12 s ago     77AC",
        "studio-2  169.254.7.2:52390   up               210 µs      38000 Mbit/s",
        "studio-2  192.168.1.12:52390  down: no answer  -           38000 Mbit/s",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn a_machine_that_is_not_heard_has_an_exit_code_of_its_own() {
    let mut status = Status { health: Health::Degraded, ..fixtures::paired() };
    assert_eq!(asked(&status).exit_code(), exit::DEGRADED);
    let other = &mut status.pair.nodes[1];
    (other.is_heard, other.heard_age_ms) = (false, Some(90_000));
    status.pair.hindrance = Some("studio-2 is not heard".into());
    let (code, text) = printed(|out| status::print(out, &plain(), &asked(&status)));
    assert_eq!(code, exit::PEER_UNREACHABLE);
    assert!(text.contains("pair       has rank 0; studio-2 is not heard"), "{text}");
    assert!(text.contains("studio-2  1 m 30 s ago"), "{text}");
    status.pair.nodes[1].is_paired = false;
    let (_, text) = printed(|out| status::print(out, &plain(), &asked(&status)));
    assert!(text.contains("not paired"), "{text}");
}

#[test]
fn what_the_ranks_measured_stands_under_the_gates() {
    let (code, text) = printed(|out| gates::print(out, &plain(), &asked(&fixtures::paired())));
    assert_eq!(code, 0);
    for line in [
        "ring over 2 ranks  median   best     bandwidth  sums timed",
        "4 KiB              25.5 µs  25.5 µs  0.16 GB/s  20",
        "64 MiB             8.45 ms  8.45 ms  7.94 GB/s  20",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\nis not in\n{text}");
    }
}
