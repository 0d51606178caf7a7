use super::*;
use crate::command::{check, doctor, explain, fixtures, gates, handoff, status};

#[test]
fn status_of_what_serves() {
    let asked = asked(&fixtures::healthy());
    let (code, text) = printed(|out| status::print(out, &plain(), &asked));
    assert_eq!(code, 0);
    assert_lines(
        &text,
        &[
            "health     healthy",
            "node       studio-1",
            "model      qwen3-235b",
            "ranks      serving for 2 h 1 m, epoch 3",
            "gateway    up, ready, http://127.0.0.1:8080, process 812",
            "proof      tokens came 12 s ago",
            "gate       all passed",
            "restarts   1 of 10 in this window",
            "memory     270.0 GiB of 512.0 GiB wired, 0 MiB without an owner, leak clear",
            "invariants hold",
            "reboot     steady, 3 left today",
            "",
            "rank  pid  phase  steps  tokens  active  queued  memory     peak       last exit",
            "0     900  ready  15000  48211   1       0       131.0 GiB  140.0 GiB  -",
            "1     901  ready  15000  48211   1       0       131.0 GiB  140.0 GiB  -",
        ],
    );
}

#[test]
fn status_of_what_is_being_mended() {
    let asked = asked(&fixtures::degraded());
    let (code, text) = printed(|out| status::print(out, &plain(), &asked));
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "health     degraded",
            "node       studio-1",
            "model      qwen3-235b",
            "ranks      backoff for 2 s, epoch 3",
            "gateway    up, ready, http://127.0.0.1:8080, process 812",
            "proof      tokens came 1 m 35 s ago",
            "gate       invariants failed: link_mtu is 1500, wanted 9000",
            "restarts   1 of 10 in this window",
            "memory     270.0 GiB of 512.0 GiB wired, 0 MiB without an owner, leak clear",
            "invariants 1 of 2 not known to hold: tandem check",
            "reboot     steady, 3 left today",
            "failure    rank 1: exit code 82 (another rank closed its control channel)",
            "fault      broken link_mtu for 3 m, met 4 times: link_mtu is 1500, wanted 9000",
            "           do: sudo ifconfig en5 mtu 9000",
            "fault      signature ring-peer-lost for 2 s, met once: [ring] Receiving from socket failed",
            "           do: None; the ranks start again.",
            "",
            "rank  pid  phase  steps  tokens  active  queued  memory     peak       last exit",
            "0     900  ready  15000  48211   1       0       131.0 GiB  140.0 GiB  -",
            "1     -    ended  -      -       -       -       -          -          exit code 82 (another rank closed its control channel)",
        ],
    );
}

#[test]
fn status_of_what_is_held() {
    let asked = asked(&fixtures::held());
    let (code, text) = printed(|out| status::print(out, &plain(), &asked));
    assert_eq!(code, 2);
    assert_lines(
        &text,
        &[
            "health     not serving",
            "node       studio-1",
            "model      qwen3-235b",
            "ranks      held for 10 m, epoch 3",
            "gateway    up, ready, http://127.0.0.1:8080, process 812",
            "proof      tokens came 11 m 40 s ago",
            "gate       engine failed: held",
            "restarts   1 of 10 in this window",
            "memory     270.0 GiB of 512.0 GiB wired, 0 MiB without an owner, leak clear",
            "invariants hold",
            "reboot     steady, 1 left today",
            "held       10 restarts in an hour did not help. Mend it, then: tandem release",
            "fault      held for 10 m, met once: 10 restarts in an hour",
            "           do: tandem release",
        ],
    );
}

#[test]
fn status_of_what_is_drained() {
    let asked = asked(&fixtures::drained());
    let (code, text) = printed(|out| status::print(out, &plain(), &asked));
    assert_eq!(code, 2);
    assert_lines(
        &text,
        &[
            "health     not serving, drained or being drained",
            "node       studio-1",
            "model      qwen3-235b",
            "ranks      drained for 2 h 1 m, epoch 3",
            "gateway    stopped, silent, http://127.0.0.1:8080",
            "proof      tokens came 12 s ago",
            "gate       engine waiting",
            "restarts   1 of 10 in this window",
            "memory     270.0 GiB of 512.0 GiB wired, 0 MiB without an owner, leak clear",
            "invariants hold",
            "reboot     steady, 3 left today",
            "operator   holds it for 1 h more",
            "operator   drained it; tandem resume serves again",
        ],
    );
}

#[test]
fn status_of_what_is_not_known_yet() {
    let asked = asked(&fixtures::unknown());
    let (code, text) = printed(|out| status::print(out, &plain(), &asked));
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "health     degraded",
            "node       studio-1",
            "model      qwen3-235b",
            "ranks      idle for 0 s, epoch 0",
            "gateway    down, silent, http://127.0.0.1:8080",
            "proof      no tokens came yet",
            "restarts   0 of 10 in this window",
            "memory     not known",
            "invariants 1 of 2 not known to hold: tandem check",
            "reboot     steady, 3 left today",
        ],
    );
}

#[test]
fn check_names_what_drifted_and_how_to_mend_it() {
    let asked = asked(&fixtures::degraded());
    let (code, text) = printed(|out| check::print(out, &plain(), &asked));
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "invariant      holds  wanted                got                   source      mode     last drift",
            "link_mtu       no     9000                  1500                  SIOCGIFMTU  enforce  3 m ago, 4 in this boot",
            "spotlight_off  -      no volume is indexed  not on this platform  -           observe",
            "",
            "do         link_mtu: sudo ifconfig en5 mtu 9000",
        ],
    );
}

#[test]
fn check_takes_unknown_for_unwell() {
    let asked = asked(&fixtures::unknown());
    let (code, text) = printed(|out| check::print(out, &plain(), &asked));
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "invariant      holds  wanted                got           source  mode     last drift",
            "link_mtu       ?      9000                  not read yet  -       enforce",
            "spotlight_off  -      no volume is indexed  not read yet  -       observe",
            "",
            "do         link_mtu: sudo ifconfig en5 mtu 9000",
        ],
    );
}

#[test]
fn check_of_a_host_as_it_should_be() {
    let asked = asked(&fixtures::healthy());
    let (code, text) = printed(|out| check::print(out, &plain(), &asked));
    assert_eq!(code, 0);
    assert_lines(
        &text,
        &[
            "invariant      holds  wanted                got                   source      mode     last drift",
            "link_mtu       yes    9000                  9000                  SIOCGIFMTU  enforce",
            "spotlight_off  -      no volume is indexed  not on this platform  -           observe",
        ],
    );
}

#[test]
fn gates_stop_at_the_one_that_failed() {
    let asked = asked(&fixtures::held());
    let (code, text) = printed(|out| gates::print(out, &plain(), &asked));
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "gate        state    evidence",
            "preflight   passed   it is so",
            "invariants  passed   it is so",
            "artifacts   passed   it is so",
            "parity      passed   it is so",
            "transport   passed   it is so",
            "engine      failed   held",
            "canary      waiting",
            "serving     waiting",
            "",
            "do         engine: tandem release",
        ],
    );
}

#[test]
fn gates_that_were_never_tried_are_not_passed() {
    let asked = asked(&fixtures::unknown());
    let (code, text) = printed(|out| gates::print(out, &plain(), &asked));
    assert_eq!(code, 1);
    assert_lines(&text, &["the supervisor has tried no gate yet"]);
}

#[test]
fn gates_that_all_passed() {
    let asked = asked(&fixtures::healthy());
    let (code, text) = printed(|out| gates::print(out, &plain(), &asked));
    assert_eq!(code, 0);
    assert_lines(
        &text,
        &[
            "gate        state   evidence",
            "preflight   passed  it is so",
            "invariants  passed  it is so",
            "artifacts   passed  it is so",
            "parity      passed  it is so",
            "transport   passed  it is so",
            "engine      passed  it is so",
            "canary      passed  it is so",
            "serving     passed  it is so",
        ],
    );
}

#[test]
fn explain_without_a_text_tells_the_open_faults() {
    let asked = asked(&fixtures::degraded());
    let (code, text) = printed(|out| explain::faults(out, &plain(), &catalogue(), &asked));
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "fault      broken link_mtu",
            "open       for 3 m, met 4 times",
            "evidence   link_mtu is 1500, wanted 9000",
            "meaning    An invariant of the host does not hold and could not be mended.",
            "action     reassert",
            "do         sudo ifconfig en5 mtu 9000",
            "",
            "fault      signature ring-peer-lost",
            "open       for 2 s, met once",
            "evidence   [ring] Receiving from socket failed",
            "meaning    A rank is gone.",
            "action     restart",
            "do         None; the ranks start again.",
        ],
    );
}

#[test]
fn explain_of_what_is_well() {
    let asked = asked(&fixtures::healthy());
    let (code, text) = printed(|out| explain::faults(out, &plain(), &catalogue(), &asked));
    assert_eq!(code, 0);
    assert_lines(&text, &["no fault is open"]);
}

#[test]
fn doctor_of_what_is_being_mended() {
    let asked = asked(&fixtures::degraded());
    let (code, text) = printed(|out| {
        doctor::print(
            out,
            &plain(),
            &doctor::all("http://127.0.0.1:1", &Ok(asked.clone()), Vec::new()),
        )
    });
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "fine       supervisor: answers at http://127.0.0.1:1",
            "WRONG      serving: degraded; tokens came 1 m 35 s ago",
            "           do: sudo ifconfig en5 mtu 9000",
            "fine       gate preflight: it is so",
            "WRONG      gate invariants: link_mtu is 1500, wanted 9000",
            "           do: sudo ifconfig en5 mtu 9000",
            "WRONG      link_mtu: 1500, wanted 9000",
            "           do: sudo ifconfig en5 mtu 9000",
            "fine       memory: 270.0 GiB wired, 0 MiB without an owner, leak clear",
            "WRONG      fault broken link_mtu: link_mtu is 1500, wanted 9000",
            "           do: sudo ifconfig en5 mtu 9000",
            "WRONG      fault signature ring-peer-lost: [ring] Receiving from socket failed",
            "           do: None; the ranks start again.",
            "fine       config: the one in force is the file's",
            "fine       ledger: it is written",
            "",
            "10 checks: 5 fine, 5 wrong, 0 unknown",
        ],
    );
}

#[test]
fn doctor_of_what_is_drained_and_held() {
    let asked = asked(&fixtures::drained());
    let (code, text) = printed(|out| {
        doctor::print(
            out,
            &plain(),
            &doctor::all("http://127.0.0.1:1", &Ok(asked.clone()), Vec::new()),
        )
    });
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "fine       supervisor: answers at http://127.0.0.1:1",
            "WRONG      serving: not serving; tokens came 12 s ago",
            "           do: tandem resume",
            "fine       gate preflight: it is so",
            "fine       gate invariants: it is so",
            "fine       gate artifacts: it is so",
            "fine       gate parity: it is so",
            "fine       gate transport: it is so",
            "fine       link_mtu: 9000",
            "fine       memory: 270.0 GiB wired, 0 MiB without an owner, leak clear",
            "WRONG      hold: an operator holds it: nothing is mended, restarted or rebooted by itself",
            "           do: tandem release",
            "fine       config: the one in force is the file's",
            "fine       ledger: it is written",
            "",
            "12 checks: 10 fine, 2 wrong, 0 unknown",
        ],
    );
}

#[test]
fn handoff_of_what_is_being_mended() {
    let asked = asked(&fixtures::degraded());
    let (code, text) =
        printed(|out| handoff::print(out, &plain(), &asked, None, &Err("no ledger".into())));
    assert_eq!(code, 1);
    assert_lines(
        &text,
        &[
            "AT         2025-06-15T15:06:40Z",
            "NODE       studio-1, up 2 h 13 m, boot 9D3F",
            "MODEL      qwen3-235b",
            "MODEL_DIR  not known here",
            "STATE      degraded; tokens came 1 m 35 s ago",
            "RUNS       ranks backoff for 2 s (epoch 3), gateway up at http://127.0.0.1:8080",
            "LAST_PASS  preflight: it is so",
            "CURRENT    invariants failed",
            "BLOCKER    broken link_mtu",
            "EVIDENCE   link_mtu is 1500, wanted 9000",
            "NEXT       sudo ifconfig en5 mtu 9000",
            "NOT_AGAIN  reassert for broken link_mtu: met 4 times and still open",
            "FAULT      broken link_mtu for 3 m, met 4 times: link_mtu is 1500, wanted 9000",
            "FAULT      signature ring-peer-lost for 2 s, met once: [ring] Receiving from socket failed",
            "REBOOTS    none; 3 left today",
            "HISTORY    not known: no ledger",
        ],
    );
}

#[test]
fn handoff_of_what_is_held() {
    let asked = asked(&fixtures::held());
    let (code, text) =
        printed(|out| handoff::print(out, &plain(), &asked, None, &Err("no ledger".into())));
    assert_eq!(code, 2);
    assert_lines(
        &text,
        &[
            "AT         2025-06-15T15:06:40Z",
            "NODE       studio-1, up 2 h 13 m, boot 9D3F",
            "MODEL      qwen3-235b",
            "MODEL_DIR  not known here",
            "STATE      not serving; tokens came 11 m 40 s ago",
            "RUNS       ranks held for 10 m (epoch 3), gateway up at http://127.0.0.1:8080",
            "LAST_PASS  transport: it is so",
            "CURRENT    engine failed",
            "BLOCKER    10 restarts in an hour did not help. Mend it, then: tandem release",
            "EVIDENCE   10 restarts in an hour",
            "NEXT       tandem release",
            "FAULT      held for 10 m, met once: 10 restarts in an hour",
            "REBOOTS    1 d ago, 2 h ago; 1 left today",
            "HISTORY    not known: no ledger",
        ],
    );
}
