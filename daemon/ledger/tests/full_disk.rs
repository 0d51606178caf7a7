//! A disk that is full, and has room again.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    path::Path,
    process::{Command, Output},
};

use support::{example, found};
use tandem_ledger::Reader;

/// What the saver told: numbers saved before the failure, the failure, numbers saved after.
struct Told {
    before: u64,
    failure: String,
    after: Option<u64>,
}

fn told(output: &Output) -> Told {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    let failed = lines.iter().position(|line| line.starts_with("failed")).unwrap();
    Told {
        before: lines[failed - 1].parse().unwrap(),
        failure: lines[failed].to_owned(),
        after: lines.get(failed + 1).map(|line| line.parse().unwrap()),
    }
}

fn events(folder: &Path) -> i64 {
    let reader = Reader::open(folder).unwrap();
    reader.events(None, 1, None).unwrap().events.last().unwrap().0
}

/// The system's limit on a file's size, which every system has: the write fails as on a disk
/// without room, but for the error's name.
#[test]
fn a_save_that_the_system_refuses_loses_nothing_that_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$@\"", "sh"])
        .arg(example("saver"))
        .arg("until-full")
        .arg(folder.path())
        .output()
        .unwrap();
    let told = told(&output);
    assert!(told.before > 10, "{}", told.before);
    assert_eq!(found(folder.path()), told.before, "{}", told.failure);
    assert_eq!(events(folder.path()), 2 * told.before as i64, "no event without its state");

    let (mut ledger, _) = support::open(folder.path());
    ledger.save(&support::state(told.before + 1), &[]).unwrap();
    drop(ledger);
    assert_eq!(found(folder.path()), told.before + 1, "and it goes on");
}

/// Runs a script as root of a new mount namespace, with a tmpfs of so many MiB at `$2`, the saver as `$1`
/// and a folder that outlives it as `$3`. `None` if this system has no such thing for its users.
#[cfg(target_os = "linux")]
fn on_a_small_disk(mib: u32, script: &str, kept: &Path) -> Option<Output> {
    let is_possible = Command::new("unshare").args(["-rm", "true"]).output();
    if !is_possible.is_ok_and(|output| output.status.success()) {
        eprintln!("not run: this system gives its users no mount namespaces");
        return None;
    }
    let disk = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c"])
        .arg(format!("set -e; mount -t tmpfs -o size={mib}m tmpfs \"$2\"; {script}"))
        .arg("sh")
        .arg(example("saver"))
        .args([disk.path(), kept])
        .output();
    Some(output.unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn saving_goes_on_once_a_full_disk_has_room() {
    // The file system ends with the namespace, so the ledger is copied out of it.
    let script = "head -c 2000000 /dev/zero > \"$2/ballast\"; mkdir \"$2/ledger\"; \
                  \"$1\" make-room \"$2/ledger\" \"$2/ballast\"; cp -r \"$2/ledger\" \"$3/\"";
    let copy = tempfile::tempdir().unwrap();
    let Some(output) = on_a_small_disk(4, script, copy.path()) else { return };
    let told = told(&output);
    assert!(told.failure.contains("full=true"), "{}", told.failure);
    assert!(told.before > 10, "{}", told.before);
    assert_eq!(told.after, Some(told.before + 1), "the failed save, again");
    let ledger = copy.path().join("ledger");
    assert_eq!(found(&ledger), told.before + 1);
    assert_eq!(events(&ledger), 2 * (told.before as i64 + 1), "nothing was lost or told twice");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_at_the_start_is_an_error_and_no_damage() {
    // First without a ledger, then with one that has saved; each time the disk is filled to its
    // last byte before the saver starts.
    let script = "fill() { head -c 9000000 /dev/zero > \"$1\" 2>&- || true; }; \
                  mkdir \"$2/ledger\"; fill \"$2/ballast\"; \
                  \"$1\" until-full \"$2/ledger\" || echo refused; rm \"$2/ballast\"; \
                  \"$1\" until-full \"$2/ledger\"; fill \"$2/ballast\"; rm \"$2\"/ledger/*-shm; \
                  fill \"$2/ballast2\"; \"$1\" until-full \"$2/ledger\" || echo refused; \
                  cp -r \"$2/ledger\" \"$3/\"";
    let copy = tempfile::tempdir().unwrap();
    let Some(output) = on_a_small_disk(4, script, copy.path()) else { return };
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{errors}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"refused"), "{text}");
    let refusals = errors.matches("make room on the disk").count();
    assert_eq!(refusals, 2, "one without a ledger, one without its log's index: {errors}");
    let last = lines.iter().filter_map(|line| line.parse::<u64>().ok()).max().unwrap();
    assert!(last > 10, "{text}");
    let ledger = copy.path().join("ledger");
    assert!(!support::names(&ledger).iter().any(|name| name.contains("corrupt")));
    assert_eq!(found(&ledger), last, "{text}\n{errors}");
}

/// A dead rank is started again on a full disk, since that takes some saves; so does a supervisor.
#[cfg(target_os = "linux")]
#[test]
fn room_that_was_reserved_lets_saves_go_on_when_the_disk_is_full() {
    // Each saver opens the ledger anew on a disk that was filled to its last byte before.
    let script = "fill() { head -c 90000000 /dev/zero > \"$1\" 2>&- || true; }; \
                  mkdir \"$2/ledger\"; \"$1\" some \"$2/ledger\" 1; \
                  for i in 1 2 3; do fill \"$2/filler$i\"; rm -f \"$2\"/ledger/*-shm; \
                  \"$1\" some \"$2/ledger\" 20; done; \
                  fill \"$2/filler4\"; \"$1\" until-full \"$2/ledger\"; cp -r \"$2/ledger\" \"$3/\"";
    let copy = tempfile::tempdir().unwrap();
    let Some(output) = on_a_small_disk(64, script, copy.path()) else { return };
    let told = told(&output);
    assert!(told.before > 61, "{}", told.before);
    assert!(told.failure.contains("full=true"), "bounded all the same: {}", told.failure);
    assert_eq!(found(&copy.path().join("ledger")), told.before);
}
