//! The executable's own surface: what it prints and how it exits.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

fn tandem(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write(folder: &Path, text: &str) -> String {
    let file = folder.join("tandem.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_config_is_checked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/tandem.toml");
    let fine = tandem(&["config", "check", "--config", shipped]);
    assert_eq!(fine.status.code(), Some(0), "{}", err(&fine));

    let shown = tandem(&["config", "show", "--config", shipped]);
    let again = write(folder.path(), &out(&shown));
    let shown_again = tandem(&["config", "show", "--config", &again]);
    assert_eq!(out(&shown), out(&shown_again), "what is shown is a config");
}

#[test]
fn a_bad_config_is_refused_with_where_and_what() {
    let folder = tempfile::tempdir().unwrap();
    for (text, parts) in [
        ("[supervise]\nbackof_min_ms = 1\n", ["line 2", "backoff_min_ms"]),
        ("[engine]\nmax_active = \"many\"\n", ["line 2", "max_active"]),
        ("[gateway]\nlisten = \"0.0.0.0:80\"\n", ["gateway.listen", "api_keys"]),
        ("[supervise]\nstatus_listen = \"10.0.0.1:80\"\n", ["status_listen", "loopback"]),
        ("nonsense", ["line 1", "tandem.toml"]),
    ] {
        let file = write(folder.path(), text);
        for command in [&["config", "check"][..], &["supervise"], &["gateway"], &["status"]] {
            let refused = tandem(&[command, &["--config", &file]].concat());
            assert_eq!(refused.status.code(), Some(64), "{command:?} {text}");
            for part in parts {
                assert!(err(&refused).contains(part), "{part} is not in: {}", err(&refused));
            }
        }
    }
    let missing = tandem(&["config", "check", "--config", "/nowhere/tandem.toml"]);
    assert_eq!(missing.status.code(), Some(64));
    assert!(err(&missing).contains("/nowhere/tandem.toml"), "{}", err(&missing));
}

#[test]
fn a_supervisor_without_a_model_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "[node]\nuser = \"\"\nrun_dir = \"run\"\nstate_dir = \"state\"\n[model]\npath = \"m\"\n\
         [supervise]\nstatus_listen = \"{free}\"\n"
    );
    let file = write(folder.path(), &text);
    let mut supervisor = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["supervise", "--config", &file])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It stays up and waits for the model; each try takes a moment, so this is bounded by a minute.
    let told = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        out(&tandem(&["gates", "--config", &file])).contains("tandem model import")
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(supervisor.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(supervisor.wait().unwrap().code(), Some(0));
    assert!(told, "`tandem gates` did not name the remedy");
}

#[test]
fn a_rank_needs_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "");
    let refused = tandem(&["rank", "--rank", "0", "--config", &file]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(err(&refused).contains("tandem supervise"), "{}", err(&refused));
    let unknown = tandem(&["rank", "--rank", "7", "--config", &file]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(err(&unknown).contains("2 [[rank]] sections"), "{}", err(&unknown));
}

#[test]
fn no_supervisor_is_its_own_exit_code() {
    // A port of our own that nobody listens on: it is bound here, but does not accept.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", held.local_addr().unwrap());
    drop(held);
    let unreachable = tandem(&["status", "--url", &url]);
    assert_eq!(unreachable.status.code(), Some(69), "{}", err(&unreachable));
    assert!(err(&unreachable).contains(&url));
    assert_eq!(tandem(&["status", "--colour"]).status.code(), Some(64));
}

#[test]
fn a_new_key_is_accepted_by_the_config_and_never_twice_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let printed = out(&tandem(&["key", "new"]));
    assert_ne!(printed, out(&tandem(&["key"])));
    let hash = printed.lines().map(str::trim).find(|line| line.starts_with("\"sha256:")).unwrap();
    let file = write(folder.path(), &format!("[gateway]\napi_keys = [{hash}]\n"));
    let fine = tandem(&["config", "check", "--config", &file]);
    assert_eq!(fine.status.code(), Some(0), "{}", err(&fine));
}

#[test]
fn every_command_has_help() {
    for command in [
        &["supervise"][..],
        &["status"],
        &["pair", "init"],
        &["pair", "join"],
        &["pair", "forget"],
        &["pair", "status"],
        &["service", "install"],
        &["service", "uninstall"],
        &["service", "start"],
        &["service", "stop"],
        &["service", "restart"],
        &["service", "status"],
        &["model", "import"],
        &["config", "check"],
        &["config", "show"],
        &["key", "new"],
        &["bench"],
        &["version"],
        &["check"],
        &["gates"],
        &["doctor"],
        &["explain"],
        &["events"],
        &["handoff"],
        &["ledger"],
        &["drain"],
        &["resume"],
        &["hold"],
        &["release"],
        &["completions"],
        &["man"],
        &["gateway"],
        &["manifest"],
        &["rank"],
    ] {
        let help = tandem(&[command, &["--help"]].concat());
        assert_eq!(help.status.code(), Some(0), "{command:?}");
        assert!(out(&help).contains("Usage: tandem"), "{command:?}");
    }
}

/// Reads what a peer sends until `mark` was in it.
fn read_until(stream: &mut std::net::TcpStream, mark: &str) -> String {
    use std::io::Read;
    let (mut text, mut byte) = (Vec::new(), [0]);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    while !text.ends_with(mark.as_bytes()) {
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_gateway_proxies_where_the_file_says_and_records_what_it_cuts_off() {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = write(
        folder.path(),
        &format!(
            "[node]\nrun_dir = \"run\"\n[gateway]\nlisten = \"{free}\"\ndrain_timeout_ms = 100\n"
        ),
    );
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let told = format!("{{\"address\":\"{}\",\"key\":\"k\"}}", other.local_addr().unwrap());
    std::fs::write(folder.path().join("run/upstream.json"), told).unwrap();
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["gateway", "--mode", "proxy", "--config", &file])
        .env("TANDEM_SUPERVISED", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = loop {
        if let Ok(stream) = TcpStream::connect(free) {
            break stream;
        }
        assert!(gateway.try_wait().unwrap().is_none(), "it ended");
    };
    client.write_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let (mut asked, _) = other.accept().unwrap();
    let request = read_until(&mut asked, "\r\n\r\n");
    assert!(request.contains("authorization: Bearer k"), "{request}");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\n";
    asked.write_all(head.as_bytes()).unwrap();
    read_until(&mut client, "data: {}\n\n");

    let pid = gateway.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let last = read_until(&mut client, "data: [DONE]\n\n");
    assert!(last.contains("\"draining\""), "{last}");
    let mut records = String::new();
    gateway.stdout.take().unwrap().read_to_string(&mut records).unwrap();
    assert_eq!(gateway.wait().unwrap().code(), Some(0));
    let lines: Vec<&str> = records.lines().collect();
    assert_eq!(lines.len(), 1, "{records}");
    assert!(lines[0].contains("\"finish\":\"drained\""), "{records}");
}
