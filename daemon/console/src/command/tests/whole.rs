//! The commands against a real endpoint, socket and ledger.

use std::{io::Read, net::TcpListener, path::Path};

use clap::Parser;
use tandem_policy::{Health, SCHEMA};
use tokio::runtime::Runtime;

use super::*;
use crate::{
    Build, Publisher, Terminal,
    command::{Check, Command, Context, Outcome, fixtures, run},
    control::{ControlServer, Orders},
    http,
};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn command(line: &str) -> Command {
    Cli::try_parse_from(line.split(' ')).unwrap().command
}

/// A supervisor's shell without its turns.
struct Rig {
    runtime: Runtime,
    publisher: Publisher,
    orders: Orders,
    folder: tempfile::TempDir,
    url: String,
}

impl Rig {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let publisher = Publisher::new(Build { version: "0.1.0".into() });
        let orders = Orders::new(0);
        let folder = ledger(&story());
        let _entered = runtime.enter();
        let server = ControlServer::bind(&folder.path().join("control.sock")).unwrap();
        runtime.spawn(server.serve(orders.clone()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(http::serve(listener, publisher.published()));
        drop(_entered);
        Self { runtime, publisher, orders, folder, url }
    }

    fn ran(&self, line: &str) -> (i32, String, String) {
        ran(line, &self.url, self.folder.path())
    }

    fn obey_all(&self) {
        let orders = self.orders.clone();
        self.runtime.spawn(async move {
            loop {
                orders.arrived().await;
                if let Some(last) = orders.pending().last() {
                    orders.obeyed(last.number);
                }
            }
        });
    }
}

fn ran(line: &str, url: &str, folder: &Path) -> (i32, String, String) {
    let checks = || {
        vec![Check {
            name: "launchd".into(),
            outcome: Outcome::Fine("the job is loaded".into()),
            remedy: String::new(),
        }]
    };
    let catalogue = catalogue();
    let context = Context {
        url,
        control: &folder.join("control.sock"),
        ledger: folder,
        catalogue: &catalogue,
        checks: &checks,
        model_path: None,
        style: plain(),
        terminal: Terminal::None,
    };
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let code = run(&command(line), &context, &mut out, &mut problems).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(problems).unwrap())
}

#[test]
fn the_exit_code_says_how_things_are() {
    let rig = Rig::new();
    let cases = [
        (fixtures::healthy(), 0, 0, 0),
        (fixtures::degraded(), 1, 1, 1),
        (fixtures::held(), 2, 0, 1),
        (fixtures::drained(), 2, 0, 1),
        (fixtures::unknown(), 1, 1, 1),
    ];
    for (status, of_status, of_check, of_gates) in cases {
        let health = status.health;
        rig.publisher.publish(status);
        assert_eq!(rig.ran("tandem status").0, of_status, "{health:?}");
        assert_eq!(rig.ran("tandem status --json").0, of_status, "{health:?}");
        assert_eq!(rig.ran("tandem handoff").0, of_status, "{health:?}");
        assert_eq!(rig.ran("tandem explain").0, of_status, "{health:?}");
        assert_eq!(rig.ran("tandem check").0, of_check, "{health:?}");
        assert_eq!(rig.ran("tandem gates").0, of_gates, "{health:?}");
        let is_well = health == Health::Healthy;
        assert_eq!(rig.ran("tandem doctor").0, i32::from(!is_well), "{health:?}");
    }
}

#[test]
fn json_is_what_the_endpoint_says() {
    let rig = Rig::new();
    rig.publisher.publish(fixtures::degraded());
    let (_, text, _) = rig.ran("tandem status --json");
    assert_eq!(text, serde_json::to_string(&fixtures::degraded()).unwrap() + "\n");
}

#[test]
fn without_a_supervisor_every_command_says_so_and_doctor_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let url = "http://127.0.0.1:1";
    for name in
        ["status", "status --json", "check", "gates", "explain", "handoff", "events --follow"]
    {
        let (code, text, problems) = ran(&format!("tandem {name}"), url, folder.path());
        assert_eq!((code, text.as_str()), (69, ""), "{name}");
        assert!(
            problems.starts_with("no supervisor answers at http://127.0.0.1:1: "),
            "{problems}"
        );
        assert!(problems.ends_with("(--config or --url names another)\n"), "{problems}");
    }
    for name in ["drain", "resume", "hold", "release"] {
        let (code, text, problems) = ran(&format!("tandem {name}"), url, folder.path());
        assert_eq!((code, text.as_str()), (69, ""), "{name}");
        assert!(problems.starts_with("no supervisor listens at "), "{problems}");
    }
    let (code, text, _) = ran("tandem doctor", url, folder.path());
    assert_eq!(code, 1);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("WRONG      supervisor: none answers at http://127.0.0.1:1: "));
    assert!(lines[1].starts_with("           do: start it"), "{text}");
    assert_eq!(
        lines[2..],
        ["fine       launchd: the job is loaded", "", "2 checks: 1 fine, 1 wrong, 0 unknown"]
    );
}

#[test]
fn a_supervisor_that_has_said_nothing_yet_is_no_answer() {
    let rig = Rig::new();
    let (code, text, problems) = rig.ran("tandem status");
    assert_eq!((code, text.as_str()), (69, ""));
    assert!(problems.contains("has published no status yet"), "{problems}");
}

#[test]
fn another_schema_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("{\"schema\":1}", "answers in schema 1, this command reads"),
        ("{\"schema\":\"2\"}", "answers in schema none"),
        ("{}", "answers in schema none"),
        (&format!("{{\"schema\":{SCHEMA}}}"), "missing field"),
        ("<html>", "expected value"),
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (body, _) in cases {
                use std::io::Write;
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                )
                .unwrap();
            }
        });
        for (body, expected) in cases {
            let (code, text, problems) = ran("tandem status", &url, folder.path());
            assert_eq!((code, text.as_str()), (69, ""), "{body}");
            assert!(problems.contains(expected), "{body}: {problems}");
        }
    });
}

#[test]
fn orders_are_obeyed_and_numbered() {
    let rig = Rig::new();
    rig.obey_all();
    let cases = [
        ("drain", "draining; tandem resume serves again (order 1)\n"),
        ("resume", "serving again (order 2)\n"),
        ("hold", "held until released; tandem release ends it (order 3)\n"),
        ("hold --for 2h", "held for 2 h; tandem release ends it (order 4)\n"),
        ("release", "released (order 5)\n"),
    ];
    for (name, expected) in cases {
        let (code, text, problems) = rig.ran(&format!("tandem {name}"));
        assert_eq!((code, text.as_str(), problems.as_str()), (0, expected, ""), "{name}");
    }
}

#[test]
fn following_shows_what_was_then_what_happens() {
    let mut rig = Rig::new();
    let fresh = event(0, What::Order { order: "order 9: held".into() });
    let (url, folder) = (rig.url.clone(), rig.folder.path().to_owned());
    let following = std::thread::spawn(move || {
        ran("tandem events --follow --limit 1 --kind order", &url, &folder)
    });
    while rig.publisher.listeners() == 0 {
        assert!(!following.is_finished(), "{:?}", following.join());
        std::thread::sleep(Duration::from_millis(5));
    }
    // What the ledger has is not told twice, other kinds are not told at all.
    for told in [story().remove(2), story().remove(6), fresh] {
        rig.publisher.tell(told);
    }
    // The supervisor ends.
    drop(rig.publisher);
    let (code, text, problems) = following.join().unwrap();
    assert_eq!(code, 69);
    assert!(
        problems.ends_with(
            "the stream ended\nIs one running with this config? (--config or --url names another)\n"
        ),
        "{problems}"
    );
    assert_lines(
        &text,
        &[
            "     7  1 s ago       order         evil\\x1b[2J\\n",
            "     -  0 s ago       order         order 9: held",
        ],
    );
}

#[test]
fn what_is_typed_wrong_is_refused() {
    for line in [
        "tandem hold --for 3",
        "tandem hold --for 60d",
        "tandem events --kind nonsense",
        "tandem events --limit 0",
        "tandem events --limit 10001",
        "tandem ledger",
        "tandem ledger --json --csv x",
        "tandem status --url http://x --config y",
        "tandem drain now",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
    let named = command("tandem status --config /etc/t.toml");
    assert_eq!(named.config(), Some(Path::new("/etc/t.toml")));
    assert_eq!(command("tandem hold --config x --for 1d").config(), Some(Path::new("x")));
    assert_eq!(command("tandem gates --url http://x").url(), Some("http://x"));
    assert_eq!(command("tandem drain").url(), None);
}
