//! `tandem pair` as an operator uses it: two configs, two processes, a code that is read and typed.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

/// A machine: a folder with a config, its key and pins beside it.
struct Machine {
    folder: tempfile::TempDir,
    port: u16,
}

fn machine(name: &str) -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "[node]\nname = \"{name}\"\nstate_dir = \"state\"\nrun_dir = \"run\"\n\
         [[rank]]\nnode = \"{name}\"\naddress = \"127.0.0.1\"\n\
         [pair]\nlisten = \"127.0.0.1:52390\"\npairing_port = {port}\n"
    );
    std::fs::write(folder.path().join("tandem.toml"), text).unwrap();
    Machine { folder, port }
}

impl Machine {
    fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tandem"))
            .arg("pair")
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path().join("tandem.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a command to its end, with this on its standard input.
    fn pair(&self, arguments: &[&str], typed: &str) -> Output {
        let mut child = self.start(arguments);
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn status(&self) -> String {
        let shown = self.pair(&["status"], "");
        assert_eq!(shown.status.code(), Some(0), "{}", err(&shown));
        out(&shown)
    }

    /// The fingerprint that it shows as its own.
    fn fingerprint(&self) -> String {
        let status = self.status();
        let line = status.lines().find(|line| line.contains("fingerprint")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A `pair init` that runs: where it is joined, and its code as it was shown.
struct Init {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    host: String,
    code: String,
}

fn init(machine: &Machine) -> Init {
    let mut child = machine.start(&["init"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut shown = Vec::new();
    while shown.len() < 2 {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended before it showed a code");
        // What is to be typed is indented.
        shown.extend(line.strip_prefix("    ").map(|typed| typed.trim().to_owned()));
    }
    let code = shown.pop().unwrap();
    let host = shown.pop().unwrap().split(' ').next_back().unwrap().to_owned();
    Init { child, out, host, code }
}

impl Init {
    /// Its exit code, the rest of its output, and its log.
    fn ended(mut self) -> (Option<i32>, String, String) {
        let (mut rest, mut log) = (String::new(), String::new());
        self.out.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), rest, log)
    }
}

#[test]
fn two_machines_are_paired_shown_and_parted() {
    let (left, right) = (machine("left"), machine("right"));
    assert!(left.status().contains("no key yet"));
    let offer = init(&left);
    assert_eq!(offer.host, format!("127.0.0.1:{}", left.port));
    let (host, code) = (offer.host.clone(), offer.code.clone());

    let wrong = if code.starts_with('A') { "BBBB-BBBB" } else { "AAAA-AAAA" };
    let refused = right.pair(&["join", &host], &format!("{wrong}\n"));
    assert_eq!(refused.status.code(), Some(77), "{}", err(&refused));
    assert!(err(&refused).contains("code is wrong"), "{}", err(&refused));
    assert!(right.status().contains("no other machine is configured or trusted"));

    // The pause ends after a second, which a quick machine must wait for; the code is typed as people do.
    let typed = code.to_lowercase().replace('-', " ");
    let joined = loop {
        let joined = right.pair(&["join", &host], &typed);
        if !err(&joined).contains("try again in") {
            break joined;
        }
        sleep(Duration::from_millis(100));
    };
    assert_eq!(joined.status.code(), Some(0), "{}", err(&joined));
    let (exit, said, log) = offer.ended();
    assert_eq!(exit, Some(0), "{said}{log}");

    // Each says the other's fingerprint, and what its config lacks.
    for (said, other) in [(&said, &right), (&out(&joined), &left)] {
        assert!(said.contains(&other.fingerprint()), "{said}");
        assert!(said.contains("[[peer]]"), "{said}");
        assert!(said.contains("addresses = [\"127.0.0.1:52390\"]"), "{said}");
    }
    assert!(said.contains("wrong code") && said.contains("4 more"), "{said}");
    assert!(log.contains("wrong code") && log.contains("127.0.0.1"), "{log}");
    assert!(!log.contains(&code) && !err(&joined).contains(&code), "no code is logged");
    assert!(left.status().contains(&right.fingerprint()), "{}", left.status());
    assert!(right.status().contains(&left.fingerprint()), "{}", right.status());

    let forgotten = left.pair(&["forget", "right"], "");
    assert_eq!(forgotten.status.code(), Some(0), "{}", err(&forgotten));
    assert!(!left.status().contains(&right.fingerprint()));
    let again = left.pair(&["forget", "right"], "");
    assert!(out(&again).contains("was not trusted"), "{}", out(&again));
}

#[test]
fn what_can_not_work_says_why_with_its_own_exit_code() {
    let (left, right) = (machine("left"), machine("right"));
    let nobody = format!("127.0.0.1:{}", left.port);
    for (arguments, typed, exit, part) in [
        (&["join", &nobody, "AAAA-AAAA"][..], "", 69, "tandem pair init"),
        (&["join", &nobody], "AAAA-AAAA\n", 69, "tandem pair init"),
        (&["join", "nowhere.invalid"], "AAAA-AAAA\n", 69, "nowhere.invalid"),
        (&["join", &nobody], "AAAA\n", 64, "8 letters"),
        (&["join", &nobody], "", 64, "8 letters"),
        (&["join", "127.0.0.1:none"], "", 64, "HOST:PORT"),
    ] {
        let refused = right.pair(arguments, typed);
        assert_eq!(refused.status.code(), Some(exit), "{arguments:?} {}", err(&refused));
        assert!(err(&refused).contains(part), "{arguments:?} {}", err(&refused));
    }

    let held = TcpListener::bind(("127.0.0.1", left.port)).unwrap();
    let taken = left.pair(&["init"], "");
    assert_eq!(taken.status.code(), Some(69), "{}", err(&taken));
    assert!(err(&taken).contains("pair.pairing_port"), "{}", err(&taken));
    drop(held);

    // The same name on both.
    let offer = init(&left);
    let same = machine("left").pair(&["join", &offer.host, &offer.code], "");
    assert_eq!(same.status.code(), Some(77), "{}", err(&same));
    assert!(err(&same).contains("node.name"), "{}", err(&same));
    let mut child = offer.child;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn only_the_user_whose_key_it_is_may_pair() {
    if !nix::unistd::Uid::effective().is_root() {
        return; // Only root can give files away.
    }
    let left = machine("left");
    let state = left.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(12_345), None).unwrap();
    for arguments in [&["init"][..], &["join", "127.0.0.1:1", "AAAA-AAAA"], &["forget", "right"]] {
        let refused = left.pair(arguments, "");
        assert_eq!(refused.status.code(), Some(77), "{arguments:?} {}", err(&refused));
        assert!(err(&refused).contains("12345"), "{arguments:?} {}", err(&refused));
    }
    assert!(!state.join("peer").exists(), "nothing is left there that its owner can't use");
}
