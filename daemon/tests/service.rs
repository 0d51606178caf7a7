//! `tandem service` with a stand-in for launchctl that starts real processes.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A Mac's launchd with one property list, in a folder that nobody else may write to.
struct Mac {
    folder: tempfile::TempDir,
}

/// A supervisor that takes a moment to unload.
const JOB: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0">
<dict>
    <key>Label</key>
    <string>io.tandem.supervise</string>
    <key>ProgramArguments</key>
    <array>
        <string>/usr/bin/env</string>
        <string>sh</string>
        <string>-c</string>
        <string>trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done</string>
    </array>
</dict>
</plist>
"#;

impl Mac {
    fn new() -> Self {
        // All on the way to it must be root's alone, which a checkout's folder need not be.
        let folder = tempfile::tempdir_in("/var/lib").unwrap();
        let mac = Self { folder };
        let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/mac/launchctl");
        fs::copy(stand_in, mac.path("launchctl")).unwrap();
        mac.mode("launchctl", 0o755);
        fs::create_dir(mac.path("launchctl.state")).unwrap();
        fs::write(mac.path("job.plist"), JOB).unwrap();
        mac.mode("job.plist", 0o644);
        mac
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes the stand-in behave otherwise.
    fn set(&self, what: &str, value: &str) {
        fs::write(self.path("launchctl.state").join(what), value).unwrap();
    }

    fn service(&self, what: &str, code: i32) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(["service", what, "--launchctl"])
            .arg(self.path("launchctl"))
            .arg("--job")
            .arg(self.path("job.plist"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(code), "{what}: {text}\n{}", self.calls());
        text
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("launchctl.state/calls")).unwrap_or_default()
    }

    /// What was asked for beside looks, and forgets it.
    fn requests(&self) -> Vec<String> {
        let calls = self.calls();
        let _ = fs::remove_file(self.path("launchctl.state/calls"));
        let verbs = calls.lines().filter(|line| !line.starts_with("print"));
        verbs.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.path("launchctl.state/pid")).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Mac {
    fn drop(&mut self) {
        if !self.pid().is_empty() {
            let _ = Command::new("kill").args(["-KILL", &self.pid()]).status();
        }
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn the_job_is_installed_stopped_and_uninstalled_and_each_may_be_said_twice() {
    let mac = Mac::new();
    assert!(mac.service("status", 3).contains("not loaded"));
    mac.service("install", 0);
    assert_eq!(mac.requests(), ["enable", "bootstrap"]);
    mac.service("install", 0);
    assert!(mac.requests().is_empty());
    assert!(mac.service("status", 0).contains(&format!("process {}", mac.pid())));

    mac.service("stop", 0);
    assert_eq!(mac.requests(), ["kill", "bootout"], "its process was gone before its job");
    mac.service("stop", 0);
    assert!(mac.requests().is_empty());
    mac.service("start", 0);
    let first = mac.pid();
    mac.service("restart", 0);
    assert_ne!(mac.pid(), first);

    mac.requests();
    mac.service("uninstall", 0);
    assert_eq!(mac.requests(), ["kill", "bootout", "disable"]);
    assert!(mac.service("start", 1).contains("tandem service install"));
    assert!(mac.service("restart", 1).contains("disabled"));
    mac.service("uninstall", 0);
    assert!(mac.requests().is_empty());
    mac.service("install", 0);
    assert!(mac.service("status", 0).contains("running"));
}

#[test]
fn a_launchd_that_refuses_at_first_or_answers_late_is_asked_again() {
    let mac = Mac::new();
    mac.set("refuse-bootstrap", "2");
    mac.service("install", 0);
    assert_eq!(mac.requests(), ["enable", "bootstrap", "bootstrap", "bootstrap"]);
    mac.set("refuse-kill", "1");
    mac.set("refuse-bootout", "1");
    mac.set("slow", "0.2");
    mac.service("stop", 0);
    assert_eq!(mac.requests(), ["kill", "kill", "bootout", "bootout"]);
}

#[test]
fn a_launchd_that_says_nothing_is_neither_believed_nor_asked_to_act() {
    let mac = Mac::new();
    mac.set("silent", "");
    assert!(mac.service("status", 4).contains("unknown"));
    mac.service("stop", 1);
    assert!(mac.requests().is_empty());
}

#[test]
fn what_others_could_change_is_not_started() {
    type Spoil = fn(&Mac);
    let cases: [(&str, Spoil); 6] = [
        ("can be changed by others", |mac| mac.mode("job.plist", 0o664)),
        ("symbolic link", |mac| {
            fs::rename(mac.path("job.plist"), mac.path("other.plist")).unwrap();
            std::os::unix::fs::symlink(mac.path("other.plist"), mac.path("job.plist")).unwrap();
        }),
        ("is missing", |mac| fs::remove_file(mac.path("job.plist")).unwrap()),
        ("Label", |mac| {
            fs::write(mac.path("job.plist"), JOB.replace("io.tandem", "io.other")).unwrap();
        }),
        ("can be changed by others", |mac| mac.mode("", 0o777)),
        ("is missing", |mac| {
            fs::write(mac.path("job.plist"), JOB.replace("/usr/bin/env", "/nowhere/env")).unwrap();
        }),
    ];
    for (part, spoil) in cases {
        let mac = Mac::new();
        spoil(&mac);
        let said = mac.service("install", 78);
        assert!(said.contains(part), "{part} is not in: {said}");
        assert!(mac.requests().is_empty(), "{part}");
    }
}

#[test]
fn only_root_may_and_only_where_launchd_is() {
    let tandem = Path::new(env!("CARGO_BIN_EXE_tandem"));
    let is_root = nix::unistd::Uid::effective().is_root();
    for what in ["install", "uninstall", "start", "stop", "restart"] {
        let mut command = Command::new(tandem);
        command.args(["service", what]);
        if is_root {
            // Whoever has no name here has no rights either.
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(77), "{what}: {}", text(&output));
        assert!(text(&output).contains("sudo"), "{}", text(&output));
    }
    if cfg!(not(target_os = "macos")) {
        let output = Command::new(tandem).args(["service", "status"]).output().unwrap();
        assert_eq!(output.status.code(), Some(69), "{}", text(&output));
        assert!(text(&output).contains("launchd"), "{}", text(&output));
    }
}
