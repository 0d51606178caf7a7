//! A real leak of locked memory: seen while it has an owner, seen when it has none, and gone.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod linux_world;

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use linux_world::{in_new, run};
use nix::sched::CloneFlags;
use tandem_host::memory;
use tandem_policy::Memory;

const MIB: u64 = 1 << 20;
const LEAK_MIB: u64 = 64;

/// How many times a round is tried until nobody else on this machine locks memory meanwhile: the
/// kernel's sums are of the whole machine.
const ROUNDS_MAX: u32 = 50;

/// `examples/leak.rs`, which cargo builds beside the tests.
fn leak() -> PathBuf {
    let path = env::current_exe().unwrap().with_file_name("../examples/leak");
    assert!(path.exists(), "{} is missing: cargo build --example leak", path.display());
    path
}

fn sample() -> Memory {
    memory(LEAK_MIB * MIB / 2).unwrap()
}

/// Whether wired memory differs by this many MiB, give or take one: pages on their way to the
/// kernel's lists are not counted yet.
fn grew_by(mib: u64, from: &Memory, to: &Memory) -> bool {
    to.wired_bytes.abs_diff(from.wired_bytes + mib * MIB) <= MIB
}

/// One life of a leak: before it, while its maker lives, when that is gone, and after its removal,
/// and the maker's process id.
fn life() -> ([Memory; 4], u32) {
    let before = sample();
    let mut maker = Command::new(leak())
        .args(["hold", &LEAK_MIB.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    BufReader::new(maker.stdout.take().unwrap()).read_line(&mut id).unwrap();
    let owned = sample();
    drop(maker.stdin.take());
    assert!(maker.wait().unwrap().success());
    let orphaned = sample();
    run(leak(), &["free", id.trim()]);
    ([before, owned, orphaned, sample()], maker.id())
}

#[test]
fn locked_memory_is_wired_whether_it_has_an_owner_or_not_until_it_is_removed() {
    in_new(CloneFlags::CLONE_NEWIPC, || {
        for round in 1.. {
            let ([before, owned, orphaned, after], maker) = life();
            let owner =
                |memory: &Memory| memory.owners.iter().find(|owner| owner.pid == maker).cloned();
            let maker = owner(&owned).expect("the maker is an owner while it lives");
            assert_eq!(maker.name, "leak");
            assert!(maker.footprint_bytes >= LEAK_MIB * MIB, "{maker:?}");
            assert_eq!(owner(&orphaned), None, "a process that is gone owns nothing");
            if grew_by(LEAK_MIB, &before, &owned)
                && grew_by(LEAK_MIB, &before, &orphaned)
                && grew_by(0, &before, &after)
            {
                return;
            }
            let wired = [&before, &owned, &orphaned, &after].map(|memory| memory.wired_bytes);
            assert!(round < ROUNDS_MAX, "wired bytes did not follow the leak: {wired:?}");
        }
    });
}

#[test]
fn a_leak_that_is_made_and_left_stays_until_it_is_removed() {
    in_new(CloneFlags::CLONE_NEWIPC, || {
        let id = run(leak(), &["make", "8"]);
        let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let line: Vec<&str> = segments.lines().nth(1).unwrap().split_ascii_whitespace().collect();
        let size = (8 * MIB).to_string();
        // Id, mode with the lock's bit, size, and how many have it attached.
        assert_eq!((line[1], line[2], line[3], line[6]), (id.trim(), "2600", &*size, "0"));
        assert!(sample().wired_bytes >= 8 * MIB);
        run(leak(), &["free", id.trim()]);
        let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        assert_eq!(segments.lines().count(), 1, "{segments}");
        assert!(!Command::new(leak()).args(["free", id.trim()]).status().unwrap().success());
    });
}

#[test]
fn a_sample_is_of_this_machine_now() {
    let first = sample();
    let second = sample();
    assert!(first.at_ms > 0 && second.at_ms >= first.at_ms);
    assert_eq!(first.total_bytes, second.total_bytes);
    assert!(first.available_bytes <= first.total_bytes && first.wired_bytes <= first.total_bytes);
    let owners = memory(1).unwrap().owners;
    assert!(owners.iter().any(|owner| owner.pid == std::process::id()));
    assert!(
        owners.len() <= 64 && owners.is_sorted_by(|a, b| a.footprint_bytes >= b.footprint_bytes)
    );
}
