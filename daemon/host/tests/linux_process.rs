//! Processes of a real kernel that are not our children.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tandem_host::{command_line, exited, is_running};

/// A process that ends is told in milliseconds; this only ends a test that waits for nothing.
const HANG: Duration = Duration::from_secs(60);

fn sh(script: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

fn line(stdout: &mut impl BufRead) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[tokio::test]
async fn the_end_of_a_process_that_is_not_our_child_is_told() {
    // The shell ends at once, so what it started is nobody's child of ours.
    let (mut shell, mut stdout) = sh("sleep 600 >/dev/null & echo $!");
    let pid: u32 = line(&mut stdout).parse().unwrap();
    shell.wait().unwrap();
    assert!(is_running(pid));

    let mut end = std::pin::pin!(exited(pid));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut end).await;
    assert!(early.is_err(), "it runs, and yet: {early:?}");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    tokio::time::timeout(HANG, end).await.expect("its end was not told").unwrap();
    assert!(!is_running(pid));
    tokio::time::timeout(HANG, exited(pid)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_process_that_can_not_be_has_ended() {
    for pid in [0, u32::MAX, 1 << 30] {
        tokio::time::timeout(HANG, exited(pid)).await.unwrap().unwrap();
        assert!(!is_running(pid));
    }
}

#[tokio::test]
async fn a_zombie_does_not_run() {
    let (mut child, mut stdout) = sh("echo up; read line");
    let pid = child.id();
    assert_eq!(line(&mut stdout), "up");
    assert!(is_running(pid));
    assert_eq!(command_line(pid), "/bin/sh -c echo up; read line ");

    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    tokio::time::timeout(HANG, exited(pid)).await.expect("its end was not told").unwrap();
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert!(state.contains(") Z "), "not reaped yet: {state}");
    assert!(!is_running(pid));
    assert_eq!(command_line(pid), "");
    child.wait().unwrap();
    assert!(!is_running(pid));
}
