//! A folder of reports over time: each report is told once.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use tandem_evidence::{FILES_PER_SCAN_MAX, REMEMBERED_MAX, ReportError, ReportFolder, TRIES_MAX};

/// A whole report with this incident, changed so many seconds after some moment.
fn put(path: &Path, incident: &str, changed_s: u64) {
    let text = format!("{{\"bug_type\":\"298\",\"incident_id\":\"{incident}\"}}\n{{}}");
    put_bytes(path, text.as_bytes(), changed_s);
}

fn put_bytes(path: &Path, bytes: &[u8], changed_s: u64) {
    fs::write(path, bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + changed_s)).unwrap();
}

fn scan(folder: &mut ReportFolder, now_ms: u64) -> Vec<String> {
    folder.scan(now_ms).into_iter().map(|(id, _)| id.to_string()).collect()
}

#[test]
fn a_report_is_told_once_newest_first_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut folder = ReportFolder::new(dir.path());
    assert_eq!(scan(&mut folder, 0), Vec::<String>::new());
    fs::create_dir(at("Retired")).unwrap();
    put(&at("a.ips"), "A", 1);
    put(&at("panic-b.panic"), "B", 3);
    put(&at("Retired/c.ips"), "C", 2);
    put(&at("ignored.diag"), "D", 4);
    assert_eq!(scan(&mut folder, 1), ["B", "C", "A"]);
    assert_eq!(scan(&mut folder, 2), Vec::<String>::new());
    // Moved away as sent; copied; and told again under another name.
    fs::rename(at("a.ips"), at("Retired/a.ips")).unwrap();
    put(&at("copy.ips"), "B", 9);
    assert_eq!(scan(&mut folder, 3), Vec::<String>::new());
    put(&at("new.ips"), "N", 0);
    assert_eq!(scan(&mut folder, 4), ["N"]);
    assert!(folder.take_refused().is_empty());
}

#[test]
fn a_torn_file_is_tried_again_later_and_less_and_less_often() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("torn.ips");
    put_bytes(&path, b"{\"bug_type\":\"298\"}\n{\"processes\":[", 1);
    let mut folder = ReportFolder::new(dir.path());
    assert_eq!(scan(&mut folder, 0), Vec::<String>::new());
    // Written whole, with the size and time unchanged, so that only the next try can find it.
    put_bytes(&path, b"{\"bug_type\":\"298\"}\n{\"a\":  123456}", 1);
    assert_eq!(scan(&mut folder, 999), Vec::<String>::new(), "too early");
    assert!(folder.has_more(), "worth another look although nothing changes");
    assert_eq!(scan(&mut folder, 1_000), ["torn.ips"]);
    assert!(folder.take_refused().is_empty());
}

#[test]
fn a_file_that_stays_torn_is_given_up_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("torn.ips");
    put_bytes(&path, b"{", 1);
    let mut folder = ReportFolder::new(dir.path());
    let mut now_ms = 0;
    for tried in 1..=TRIES_MAX {
        assert!(folder.take_refused().is_empty(), "{tried}");
        assert_eq!(scan(&mut folder, now_ms), Vec::<String>::new());
        now_ms += 1_000 << (tried - 1);
    }
    let refused = folder.take_refused();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].path, path);
    assert!(matches!(refused[0].error, ReportError::Partial));
    assert!(!folder.has_more(), "given up");
    // A change makes it another file.
    assert_eq!(scan(&mut folder, u64::MAX), Vec::<String>::new());
    put(&path, "T", 2);
    assert_eq!(scan(&mut folder, u64::MAX), ["T"]);
}

#[test]
fn what_cannot_be_read_is_refused_once_and_other_kinds_are_not_worth_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    put_bytes(&at("no.ips"), b"no report", 1);
    put_bytes(&at("stackshot.ips"), b"{\"bug_type\":\"288\"}\n{}", 2);
    std::os::unix::fs::symlink("/etc/passwd", at("link.ips")).unwrap();
    fs::create_dir(at("folder.ips")).unwrap();
    let mut folder = ReportFolder::new(dir.path());
    for now_ms in 0..3 {
        assert_eq!(scan(&mut folder, now_ms), Vec::<String>::new());
    }
    let mut refused: Vec<_> = folder.take_refused().into_iter().map(|r| r.path).collect();
    refused.sort();
    assert_eq!(refused, [at("link.ips"), at("no.ips")]);
}

#[test]
fn a_missing_folder_is_told_once_until_it_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reports");
    let mut folder = ReportFolder::new(&path);
    let faults = |folder: &mut ReportFolder| {
        assert_eq!(scan(folder, 0), Vec::<String>::new());
        scan(folder, 0);
        folder.take_refused().len()
    };
    assert_eq!(faults(&mut folder), 1);
    assert_eq!(faults(&mut folder), 0);
    fs::create_dir(&path).unwrap();
    assert_eq!(faults(&mut folder), 0);
    // A link in its place could lead anywhere.
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink(dir.path(), &path).unwrap();
    assert_eq!(faults(&mut folder), 1);
}

#[test]
fn a_full_folder_is_read_in_parts_and_nothing_old_comes_back_as_new() {
    let dir = tempfile::tempdir().unwrap();
    let files = REMEMBERED_MAX + 50;
    for n in 0..files {
        put(&dir.path().join(format!("{n}.ips")), &n.to_string(), n as u64);
    }
    let mut folder = ReportFolder::new(dir.path());
    let mut told = Vec::new();
    let mut scans = 0;
    while scans == 0 || folder.has_more() {
        let part = scan(&mut folder, 0);
        assert!(part.len() <= FILES_PER_SCAN_MAX);
        told.extend(part);
        scans += 1;
        assert!(scans <= files / FILES_PER_SCAN_MAX + 2, "it says for ever that there is more");
    }
    let newest: Vec<_> = (50..files).rev().map(|n| n.to_string()).collect();
    assert_eq!(told, newest);
    put(&dir.path().join("late.ips"), "late", 1_000_000);
    assert_eq!(scan(&mut folder, 0), ["late"]);
    assert_eq!(scan(&mut folder, 0), Vec::<String>::new());
}
