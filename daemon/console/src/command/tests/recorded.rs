//! The commands that read the ledger, on a real one.

use std::path::Path;

use super::*;
use crate::{
    Terminal,
    command::{Command, Context, EventsArgs, LedgerArgs, events, fixtures, handoff, run},
};

/// Runs a command with this ledger and no supervisor.
fn ran(command: &Command, folder: &Path) -> (i32, String, String) {
    let catalogue = catalogue();
    let context = Context {
        url: "http://127.0.0.1:1",
        control: &folder.join("control.sock"),
        ledger: folder,
        catalogue: &catalogue,
        checks: &Vec::new,
        model_path: Some(Path::new("/models/qwen3")),
        style: plain(),
        terminal: Terminal::None,
    };
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let code = run(command, &context, &mut out, &mut problems).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(problems).unwrap())
}

fn events_of(kinds: &[&str], since: Option<i64>, limit: usize, json: bool) -> Command {
    let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    Command::Events(EventsArgs { kinds, since, limit, json, ..EventsArgs::default() })
}

fn sql(sql: &str, json: bool, csv: bool) -> Command {
    Command::Ledger(LedgerArgs { config: None, sql: sql.into(), json, csv })
}

#[test]
fn the_kinds_are_those_of_the_schema() {
    let schema = schemars::schema_for!(Event).to_value();
    let kinds: Vec<&str> = schema["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variant| variant["properties"]["kind"]["const"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, events::KINDS);
}

#[test]
fn events_are_told_oldest_first() {
    let folder = ledger(&story());
    let (code, text, problems) = ran(&events_of(&[], None, 50, false), folder.path());
    assert_eq!((code, problems.as_str()), (0, ""));
    assert_lines(
        &text,
        &[
            "     1  2 h 1 m ago   started       tandem 0.1.0 in a new boot 9D3F",
            "     2  2 h 1 m ago   epoch         epoch 3: starting to serving",
            "     3  10 m ago      drift         link_mtu is 1500, wanted 9000",
            "     4  9 m 50 s ago  held          link_mtu holds again after 10 s",
            "     5  3 m ago       drift         link_mtu is 1500, wanted 9000",
            "     6  2 s ago       epoch         epoch 3: serving to stopping: rank 1: exit code 82",
            "     7  1 s ago       order         evil\\x1b[2J\\n",
        ],
    );
}

#[test]
fn events_can_be_chosen() {
    let folder = ledger(&story());
    let ids = |command: &Command| -> Vec<String> {
        let (code, text, _) = ran(command, folder.path());
        assert_eq!(code, 0);
        text.lines().map(|l| l.split_whitespace().next().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&events_of(&[], None, 2, false)), ["6", "7"]);
    assert_eq!(ids(&events_of(&[], Some(2), 2, false)), ["3", "4"]);
    assert_eq!(ids(&events_of(&["drift", "held"], None, 50, false)), ["3", "4", "5"]);
    assert_eq!(ids(&events_of(&[], Some(7), 50, false)), Vec::<String>::new());
}

#[test]
fn events_as_json_are_one_a_line_with_id_and_time() {
    let folder = ledger(&story());
    let (_, text, _) = ran(&events_of(&["order"], None, 50, true), folder.path());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "id": 7, "time": "2025-06-15T15:06:39Z", "wall_ms": NOW_WALL_MS - 1_000,
            "boot_ms": 1_000, "kind": "order", "order": "evil\u{1b}[2J\n",
        })
    );
}

#[test]
fn without_a_ledger_the_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for command in [events_of(&[], None, 1, false), sql("SELECT 1", false, false)] {
        let (code, text, problems) = ran(&command, folder.path());
        assert_eq!((code, text.as_str()), (69, ""));
        assert!(problems.starts_with("there is no ledger at "), "{problems}");
    }
}

#[test]
fn the_ledger_answers_in_three_forms() {
    let folder = ledger(&story());
    let question = "SELECT id, invariant, NULL AS gap, 1.5 AS half, x'00ff' AS bytes, \
                    'a,\"b\"' || char(10, 27) AS odd FROM drifts WHERE id < 4";
    let (code, text, problems) = ran(&sql(question, false, false), folder.path());
    assert_eq!((code, problems.as_str()), (0, ""));
    assert_lines(
        &text,
        &[
            "id  invariant  gap  half  bytes    odd",
            "3   link_mtu   -    1.5   x'00ff'  a,\"b\"\\n\\x1b",
        ],
    );
    let (_, text, _) = ran(&sql(question, true, false), folder.path());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{
            "id": 3, "invariant": "link_mtu", "gap": null, "half": 1.5, "bytes": "x'00ff'",
            "odd": "a,\"b\"\n\u{1b}",
        }])
    );
    let (_, text, _) = ran(&sql(question, false, true), folder.path());
    assert_eq!(
        text,
        "id,invariant,gap,half,bytes,odd\r\n3,link_mtu,,1.5,x'00ff',\"a,\"\"b\"\"\n\u{1b}\"\r\n"
    );
}

#[test]
fn the_ledger_is_only_read() {
    let folder = ledger(&story());
    for refused in ["DELETE FROM events", "SELECT 1; SELECT 2", "SELEKT", "ATTACH 'x' AS y"] {
        let (code, text, problems) = ran(&sql(refused, false, false), folder.path());
        assert_eq!((code, text.as_str()), (64, ""), "{refused}");
        assert!(!problems.is_empty(), "{refused}");
    }
}

#[test]
fn a_handoff_tells_what_was() {
    let folder = ledger(&story());
    let catalogue = catalogue();
    let context = Context {
        url: "",
        control: Path::new(""),
        ledger: folder.path(),
        catalogue: &catalogue,
        checks: &Vec::new,
        model_path: Some(Path::new("/models/qwen3")),
        style: plain(),
        terminal: Terminal::None,
    };
    let asked = asked(&fixtures::healthy());
    let (code, text) = printed(|out| handoff::run(&context, &asked, out));
    assert_eq!(code, 0);
    assert_lines(
        &text,
        &[
            "AT         2025-06-15T15:06:40Z",
            "NODE       studio-1, up 2 h 13 m, boot 9D3F",
            "MODEL      qwen3-235b",
            "MODEL_DIR  /models/qwen3",
            "STATE      healthy; tokens came 12 s ago",
            "RUNS       ranks serving for 2 h 1 m (epoch 3), gateway up at http://127.0.0.1:8080",
            "LAST_PASS  serving: it is so",
            "CURRENT    all gates passed",
            "BLOCKER    none",
            "EVIDENCE   tokens came 12 s ago",
            "NEXT       none; tandem status --watch",
            "REBOOTS    none; 3 left today",
            "DRIFT      link_mtu 2 times in 24 h, last 3 m ago: 1500, wanted 9000",
            "FIGURES    24 h: 0 requests, 0 failed, 0 tokens in, 0 out",
            "LAST",
            "     1  2 h 1 m ago   started       tandem 0.1.0 in a new boot 9D3F",
            "     2  2 h 1 m ago   epoch         epoch 3: starting to serving",
            "     6  2 s ago       epoch         epoch 3: serving to stopping: rank 1: exit code 82",
            "     7  1 s ago       order         evil\\x1b[2J\\n",
        ],
    );
}
