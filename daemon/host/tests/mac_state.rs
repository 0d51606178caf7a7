//! What runs on a Mac: its GPU, its memory and our job in launchd, read from recorded answers.

use tandem_host::mac::{
    SEEN_BYTES_MAX, TEXT_BYTES_MAX, Unparsed, accelerator,
    launchctl::{self, ExitCode, State},
    vm_stat,
};

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("fixtures/", $path, ".txt"))
    };
}

#[test]
fn gpu_memory_is_read_by_its_whole_key_and_summed_over_dies() {
    let one = accelerator::parse(fixture!("ioreg/one")).unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].registry_id, 0x1_0000_0971);
    assert_eq!(one[0].in_use_bytes, 7_688_503_296);
    assert_eq!(one[0].allocated_bytes, Some(14_511_046_656));
    assert_eq!(one[0].utilization_percent, Some(34));
    assert_eq!(accelerator::recoveries(&one), Some(0));

    let two = accelerator::parse(fixture!("ioreg/two")).unwrap();
    let each: Vec<_> = two.iter().map(|a| (a.in_use_bytes, a.utilization_percent)).collect();
    assert_eq!(each, [(268_435_456, Some(100)), (33_554_432, Some(7))]);
    assert_eq!(accelerator::in_use_bytes(&two), 301_989_888);
    assert_eq!(accelerator::recoveries(&two), Some(3));
}

#[test]
fn a_gpu_that_is_printed_twice_counts_once() {
    let text = fixture!("ioreg/one").repeat(2);
    assert_eq!(accelerator::parse(&text), accelerator::parse(fixture!("ioreg/one")));
}

#[test]
fn resets_are_known_only_when_every_gpu_tells() {
    let text = fixture!("ioreg/two").replacen("\"recoveryCount\"=1,", "", 1);
    let accelerators = accelerator::parse(&text).unwrap();
    assert_eq!(accelerator::recoveries(&accelerators), None);
}

#[test]
fn gpu_statistics_of_another_form_are_refused() {
    let one = fixture!("ioreg/one");
    let rows = [
        ("nothing", String::new()),
        ("no GPU of Apple's", fixture!("ioreg/other_gpu").into()),
        ("statistics are cut", one.split("Tiler").next().unwrap().into()),
        ("heading alone", one.lines().next().unwrap().into()),
        ("no heading", one.lines().skip(1).collect::<Vec<_>>().join("\n")),
        ("no number", one.replace("=7688503296", "=lots")),
        ("negative", one.replace("=7688503296", "=-1")),
        ("only the driver's", one.replace("\"In use system memory\"=7688503296", "\"a\"=1")),
        ("no id", one.replace(", id 0x", ", id ")),
        ("the last GPU without", format!("{one}\n{}", one.lines().next().unwrap())),
        ("a GPU without", format!("{}\n{one}", one.lines().next().unwrap())),
    ];
    for (name, text) in rows {
        assert!(matches!(accelerator::parse(&text), Err(Unparsed::Form { .. })), "{name}");
    }
}

#[test]
fn memory_is_read_in_bytes_of_the_pages_said() {
    let memory = vm_stat::parse(fixture!("vm_stat/studio")).unwrap();
    assert_eq!(memory.page_size_bytes, 16384);
    assert_eq!(memory.wired_bytes, 2 << 30);
    assert_eq!(memory.free_bytes, 123_456 * 16384);
    assert_eq!(memory.compressor_bytes, Some(12_288 * 16384));
}

#[test]
fn memory_of_another_form_is_refused() {
    let studio = fixture!("vm_stat/studio");
    let rows = [
        ("nothing", String::new()),
        ("no page size", studio.replace("16384 bytes", "")),
        ("a page size that is none", studio.replace("16384", "0")),
        ("no wired pages", studio.replace("wired down", "wired up")),
        ("no full stop", studio.replace("131072.", "131072")),
        ("more than 64 bits", studio.replace("131072.", "18446744073709551615.")),
    ];
    for (name, text) in rows {
        assert!(vm_stat::parse(&text).is_err(), "{name}");
    }
}

#[test]
fn a_job_is_read_from_its_own_lines_and_not_from_its_coalitions() {
    let rows = [
        ("running", fixture!("launchctl/running"), State::Running, Some(35711), 2, 600),
        ("first run", fixture!("launchctl/never_exited"), State::Running, Some(10526), 1, 5),
        ("jetsam", fixture!("launchctl/jetsam"), State::NotRunning, None, 233, 5),
        ("refused", fixture!("launchctl/refused"), State::SpawnScheduled, None, 5, 600),
    ];
    for (name, text, state, pid, runs, exit_timeout_s) in rows {
        let job = launchctl::parse(text).unwrap();
        assert_eq!(job.target, "system/com.example.tandem", "{name}");
        assert_eq!((job.state, job.pid, job.runs), (state, pid, Some(runs)), "{name}");
        assert_eq!(job.exit_timeout_s, Some(exit_timeout_s), "{name}");
    }
}

#[test]
fn the_last_end_of_a_job_is_a_code_a_reason_or_a_signal() {
    let rows = [
        (fixture!("launchctl/running"), None, None, Some("Terminated: 15"), false),
        (fixture!("launchctl/never_exited"), Some(ExitCode::Never), None, None, false),
        (fixture!("launchctl/jetsam"), None, Some("OS_REASON_JETSAM"), None, true),
        (fixture!("launchctl/refused"), Some(ExitCode::Code(78)), None, None, false),
    ];
    for (text, code, reason, signal, jetsammed) in rows {
        let job = launchctl::parse(text).unwrap();
        assert_eq!(job.last_exit_code, code);
        assert_eq!(job.last_exit_reason.as_deref(), reason);
        assert_eq!(job.last_signal.as_deref(), signal);
        assert_eq!(job.was_jetsammed(), jetsammed);
    }
    let idle = "system/a = {\n\tstate = not running\n\tlast exit reason = \
                JETSAM_REASON_MEMORY_IDLE_EXIT\n\tlast exit code = -9\n}\n";
    let job = launchctl::parse(idle).unwrap();
    assert!(job.was_jetsammed());
    assert_eq!(job.last_exit_code, Some(ExitCode::Code(-9)));
}

#[test]
fn jobs_of_another_form_are_refused() {
    let running = fixture!("launchctl/running");
    let rows = [
        ("not loaded", fixture!("launchctl/not_loaded").into()),
        ("nothing", String::new()),
        ("cut", running.trim_end().trim_end_matches('}').into()),
        ("no state of its own", running.replacen("\tstate = running\n", "", 1)),
        ("two states", running.replacen("\tpid", "\tstate = waiting\n\tpid", 1)),
        ("no number", running.replace("pid = 35711", "pid = none")),
        ("no code", running.replace("last terminating signal", "last exit code")),
    ];
    for (name, text) in rows {
        assert!(launchctl::parse(&text).is_err(), "{name}");
    }
}

#[test]
fn an_error_repeats_only_the_start_of_what_was_seen() {
    // The cut falls inside a character of three bytes and is moved before it.
    let long = format!("x{}", "ˇ€".repeat(100));
    let Err(Unparsed::Form { seen, .. }) = launchctl::parse(&long) else {
        panic!("it was understood")
    };
    assert!(long.starts_with(&seen));
    assert!((SEEN_BYTES_MAX - 2..SEEN_BYTES_MAX).contains(&seen.len()), "{}", seen.len());
}

#[test]
fn an_answer_that_is_too_long_is_not_looked_at() {
    let running = fixture!("launchctl/running");
    let padded = |size: usize| format!("{running}{}", "\n".repeat(size - running.len()));
    assert!(launchctl::parse(&padded(TEXT_BYTES_MAX)).is_ok());
    let (size_bytes, max_bytes) = (TEXT_BYTES_MAX + 1, TEXT_BYTES_MAX);
    let tool = "launchctl print";
    let wanted = Unparsed::TooLong { tool, size_bytes, max_bytes };
    assert_eq!(launchctl::parse(&padded(size_bytes)), Err(wanted));
}
