use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::*;

/// Long enough for a thread to get its turn on a busy machine.
const HANG_MS: u64 = 1_000;

/// Far longer than any probe here takes on a busy machine.
const AMPLE_MS: u64 = 60_000;

fn sh(script: &str) -> Answer<CommandOutput> {
    command("/bin/sh".as_ref(), &["-c", script])
}

#[tokio::test]
async fn a_hung_probe_is_left_and_never_run_again_and_the_others_go_on() {
    let runs = Arc::new(AtomicU32::new(0));
    let hang = |runs: &Arc<AtomicU32>| {
        let runs = Arc::clone(runs);
        move || {
            runs.fetch_add(1, Ordering::SeqCst);
            sh("exec sleep 60").map(|output| output.stdout)
        }
    };
    let mut probes = Probes::start(HANG_MS).unwrap();
    assert_eq!(probes.ask("rdma", "ibv_devinfo", hang(&runs)), Asked::Queued);
    assert_eq!(probes.ask("rdma", "ibv_devinfo", hang(&runs)), Asked::Pending);
    assert_eq!(probes.ask("spotlight", "mdutil", || Ok("off".into())), Asked::Queued);

    let reason = "ibv_devinfo did not end within 1000 ms and is not run again until the supervisor \
                  restarts";
    let hung = ("rdma", Err(Unknown::Hung(reason.into())));
    assert_eq!(probes.answered().await, hung);
    assert_eq!(probes.answered().await, ("spotlight", Ok("off".into())));
    assert_eq!(probes.ask("rdma", "ibv_devinfo", hang(&runs)), Asked::Queued);
    assert_eq!(probes.answered().await, hung);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn probes_run_one_at_a_time_in_the_order_they_were_asked_for() {
    let running = Arc::new(AtomicU32::new(0));
    let mut probes = Probes::start(AMPLE_MS).unwrap();
    for key in 0..8 {
        let running = Arc::clone(&running);
        let asked = probes.ask(key, "probe", move || {
            let others = running.fetch_add(1, Ordering::SeqCst);
            let output = sh("exec true");
            running.fetch_sub(1, Ordering::SeqCst);
            output.map(|_| others)
        });
        assert_eq!(asked, Asked::Queued);
    }
    for key in 0..8 {
        assert_eq!(probes.answered().await, (key, Ok(0)));
    }
}

#[tokio::test]
async fn the_queue_is_bounded_even_if_nobody_takes_the_answers() {
    let mut probes = Probes::start(AMPLE_MS).unwrap();
    for key in 0..QUEUE_MAX {
        assert_eq!(probes.ask(key, "probe", || Ok(())), Asked::Queued);
    }
    assert_eq!(probes.ask(QUEUE_MAX, "probe", || Ok(())), Asked::Refused);
    assert_eq!(probes.answered().await, (0, Ok(())));
    assert_eq!(probes.ask(QUEUE_MAX, "probe", || Ok(())), Asked::Queued);
}

#[tokio::test]
async fn a_probe_that_panics_is_a_failure() {
    let mut probes = Probes::<u32, ()>::start(AMPLE_MS).unwrap();
    probes.ask(1, "ioreg", || panic!("no such key"));
    let failed = Unknown::Failed("ioreg panicked".into());
    assert_eq!(probes.answered().await, (1, Err(failed)));
}

#[test]
fn a_tool_says_what_it_says_and_how_it_ended() {
    let said = |code, stdout: &str, stderr: &str| {
        Ok(CommandOutput { code, stdout: stdout.into(), stderr: stderr.into() })
    };
    assert_eq!(sh("echo on; echo odd >&2; exit 3"), said(Some(3), "on\n", "odd\n"));
    assert_eq!(sh("kill -9 $$"), said(None, "", ""));
    assert_eq!(sh("read line || pwd; echo $LC_ALL"), said(Some(0), "/\nC\n", ""));
    // More than a pipe holds, to both outputs in turn.
    let full = "yes | head -c 60000 >&2; yes | head -c 60000";
    assert_eq!(sh(full).unwrap().stderr.len(), 60_000);
}

#[test]
fn a_tool_that_says_too_much_or_is_not_there_is_a_failure() {
    let reason = format!("/bin/sh: it wrote more than {OUTPUT_BYTES_MAX} bytes");
    assert_eq!(sh("exec yes"), Err(Unknown::Failed(reason.clone())));
    assert_eq!(sh("exec yes >&2"), Err(Unknown::Failed(reason)));
    let absent = command("/no/such/tool".as_ref(), &[]);
    assert!(matches!(absent, Err(Unknown::Failed(reason)) if reason.starts_with("/no/such/tool")));
}
