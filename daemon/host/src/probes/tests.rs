use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::*;

/// Long enough for a thread to get its turn on a busy machine.
const HANG_MS: u64 = 1_000;

/// Far longer than any probe here takes on a busy machine.
const AMPLE_MS: u64 = 60_000;

fn script(script: &str) -> Tool {
    Tool::new("/bin/sh", &["-c", script]).within(AMPLE_MS)
}

fn sh(text: &str) -> Answer<CommandOutput> {
    command(&script(text))
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
    for text in ["exec yes", "exec yes >&2", "yes >&2 & sleep 60", "yes & exec sleep 60 >&-"] {
        let reason = format!("`/bin/sh -c '{text}'`: it wrote more than {OUTPUT_BYTES_MAX} bytes");
        assert_eq!(sh(text), Err(Unknown::Failed(reason)));
    }
    assert_eq!(command(&script("echo long").writing(4)).map(|_| ()), {
        let reason = "`/bin/sh -c 'echo long'`: it wrote more than 4 bytes";
        Err(Unknown::Failed(reason.into()))
    });
    let absent = command(&Tool::new("/no/such/tool", &[]));
    assert!(
        matches!(absent, Err(Unknown::Failed(reason)) if reason.starts_with("`/no/such/tool`"))
    );
    let relative = command(&Tool::new("sh", &["-c", "true"]));
    assert!(matches!(relative, Err(Unknown::Failed(why)) if why.contains("not an absolute path")));
}

/// Whether a process whose arguments end so is there.
#[cfg(target_os = "linux")]
fn runs(arguments_end: &str) -> bool {
    let folders = std::fs::read_dir("/proc").unwrap().flatten();
    folders.filter_map(|folder| std::fs::read(folder.path().join("cmdline")).ok()).any(|line| {
        String::from_utf8_lossy(&line)
            .trim_end_matches('\0')
            .replace('\0', " ")
            .ends_with(arguments_end)
    })
}

#[cfg(target_os = "linux")]
#[test]
fn a_late_tool_is_killed_with_what_it_started_and_may_run_again() {
    // Numbers that no other test sleeps for.
    let text = "sleep 611 & sleep 612";
    let late = command(&script(text).within(HANG_MS));
    let reason =
        format!("`/bin/sh -c '{text}'`: it did not end within {HANG_MS} ms and was killed");
    assert_eq!(late, Err(Unknown::Failed(reason)));
    // A killed process is not reaped before its parent, which may be a moment late.
    for _ in 0..1_000 {
        if !runs("sleep 611") && !runs("sleep 612") {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("a killed tool still runs");
}

#[test]
fn a_tool_that_asks_a_driver_hangs_when_it_is_late() {
    let late = command(&script("exec sleep 613").within(HANG_MS).asking_driver());
    let reason = format!("`/bin/sh -c 'exec sleep 613'` did not end within {HANG_MS} ms");
    assert_eq!(late, Err(Unknown::Hung(reason)));
}

#[test]
fn a_tool_that_closes_its_outputs_and_goes_on_is_late_too() {
    let late = command(&script("exec >&- 2>&-; sleep 614").within(HANG_MS));
    assert!(matches!(late, Err(Unknown::Failed(reason)) if reason.contains("was killed")));
}

#[test]
fn a_tool_is_shown_as_an_operator_would_type_it() {
    let tool =
        Tool::new("/usr/sbin/networksetup", &["-getinfo", "Tandem Thunderbolt 4", "it's", ""]);
    let wanted = r"/usr/sbin/networksetup -getinfo 'Tandem Thunderbolt 4' 'it'\''s' ''";
    assert_eq!(tool.to_string(), wanted);
}
