//! Reports as macOS writes them, and files that only look like some.
#![allow(clippy::unwrap_used)]

use std::{fs, io::Write, os::unix::fs::symlink, path::Path};

use tandem_evidence::{
    Catalogue, REPORT_BYTES_MAX, REPORT_TEXT_BYTES_MAX, Report, ReportError, boot_of, read_report,
};

const HEADER: &str =
    r#"{"bug_type":"309","incident_id":"A-1","timestamp":"2026-02-08 22:58:16.00 -0500"}"#;

fn real(name: &str) -> (String, Report) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports").join(name);
    let (id, report) = read_report(&path).unwrap();
    (id.to_string(), report)
}

/// What reading a file of these bytes gives.
fn reading(bytes: &[u8]) -> Result<(String, Report), ReportError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.ips");
    fs::write(&path, bytes).unwrap();
    read_report(&path).map(|(id, report)| (id.to_string(), report))
}

fn signature(report: &Report) -> Option<&'static str> {
    Catalogue::builtin().match_report(report).map(|signature| signature.id.as_str())
}

#[test]
fn a_crash_tells_who_how_and_what_the_libraries_said_last() {
    let (id, report) = real("gpu-out-of-memory.ips");
    assert_eq!(id, "6E0C1F0B-3A44-4B8E-9A53-0C6A6A3F9D01");
    assert_eq!(signature(&report), Some("crash-gpu-out-of-memory"));
    let Report::Crash { process, pid, signal, exception, termination, captured_wall_ms, text } =
        report
    else {
        panic!("no crash");
    };
    assert_eq!((process.as_str(), pid), ("tandem", Some(812)));
    assert_eq!((signal.as_deref(), exception.as_deref()), (Some("SIGABRT"), Some("EXC_CRASH")));
    assert_eq!(termination.as_deref(), Some("SIGNAL 6 Abort trap: 6"));
    // 2026-02-09 03:58:15.751 UTC.
    assert_eq!(captured_wall_ms, Some(1_770_609_495_751));
    assert_eq!(
        text,
        "exception EXC_CRASH SIGABRT\n\
         termination SIGNAL 6 Abort trap: 6\n\
         asi libc++abi.dylib: terminating due to uncaught exception of type std::runtime_error: \
         [METAL] Command buffer execution failed: Insufficient Memory \
         (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)\n\
         asi libsystem_c.dylib: abort() called\n\
         frame __pthread_kill (libsystem_kernel.dylib)\n\
         frame mlx::core::gpu::check_error(MTL::CommandBuffer*) (tandem)\n\
         frame unknown (unknown)"
    );
}

#[test]
fn a_repeated_key_and_a_stack_without_its_number_are_read() {
    let (_, report) = real("rdma-post.ips");
    assert_eq!(signature(&report), Some("crash-rdma-post"));
    let text = report.text();
    assert!(text.contains("\nframe tbt_post_recv (libthunderboltrdma.dylib)\n"), "{text}");
}

#[test]
fn a_jetsam_tells_who_was_killed_and_how_large_it_was() {
    let (id, report) = real("jetsam.ips");
    assert_eq!(id, "jetsam.ips", "it has no incident, so it is known by its name");
    assert_eq!(signature(&report), Some("jetsam-tandem"));
    let Report::Jetsam { largest, victims, captured_wall_ms } = report else {
        panic!("no jetsam");
    };
    assert_eq!(largest.as_deref(), Some("darkbloom"));
    assert_eq!(captured_wall_ms, Some(1_781_240_400_000));
    let victims: Vec<_> = victims
        .iter()
        .map(|v| (v.name.as_str(), v.pid, v.reason.as_str(), v.resident_bytes))
        .collect();
    assert_eq!(
        victims,
        [
            ("darkbloom", Some(456), "per-process-limit", Some(1_572_864 * 16_384)),
            ("tandem", Some(812), "vm-pageshortage", Some(17_825_792 * 16_384)),
        ]
    );
}

#[test]
fn a_panic_is_joined_to_the_boot_that_it_ended() {
    let (_, report) = real("panic.ips");
    assert_eq!(signature(&report), Some("panic-gpu-memory-count"));
    let Report::Panic { boot_session, captured_wall_ms, .. } = &report else {
        panic!("no panic");
    };
    assert_eq!(boot_session.as_deref(), Some("7EDF3EA8-1F47-4E07-A28D-C02488B3E469"));
    assert_eq!(*captured_wall_ms, Some(1_776_326_400_110));
    let other = "00000000-0000-4000-8000-000000000000".to_owned();
    let this = "7edf3ea8-1f47-4e07-a28d-c02488b3e469\n".to_owned();
    assert_eq!(boot_of(&report, &[other.clone(), this.clone()]), Some(1));
    assert_eq!(boot_of(&report, &[other]), None);
    assert_eq!(boot_of(&report, &[]), None);
    assert_eq!(boot_of(&real("jetsam.ips").1, &[this]), None);
}

#[test]
fn a_panic_whose_boot_is_not_a_uuid_is_joined_to_none() {
    for (said, joined) in [
        ("Boot session UUID: 7EDF3EA8-1F47-4E07-A28D-C02488B3E469", true),
        ("Boot session UUID:7EDF3EA8-1F47-4E07-A28D-C02488B3E469 x", true),
        ("Boot session UUID: 7EDF3EA8-1F47-4E07-A28D-C02488B3E46", false),
        ("Boot session UUID: 7EDF3EA8-1F47-4E07-A28D-C02488B3E4690", false),
        ("Boot session UUID: 7EDF3EA81F47-4E07-A28D-C02488B3E4690", false),
        ("Boot session UUID:", false),
        ("nothing", false),
    ] {
        let body = serde_json::json!({ "panicString": said });
        let file = format!("{{\"bug_type\":\"210\"}}\n{body}");
        let (_, report) = reading(file.as_bytes()).unwrap();
        let Report::Panic { boot_session, .. } = &report else { panic!("no panic") };
        assert_eq!(boot_session.is_some(), joined, "{said}");
    }
}

#[test]
fn a_gpu_event_tells_what_the_driver_saw() {
    let (_, report) = real("gpu-event.ips");
    assert_eq!(
        report.text(),
        "gpu-event tandem signature=577 restart_reason=4 guilty_dm=3 firmware-detected lockup"
    );
    assert_eq!(signature(&report), Some("gpu-firmware-lockup"));
}

#[test]
fn what_a_report_does_not_say_is_not_made_up() {
    let (id, report) = reading(format!("{HEADER}\n{{}}").as_bytes()).unwrap();
    assert_eq!(id, "A-1");
    let Report::Crash { process, pid, signal, exception, termination, captured_wall_ms, text } =
        report
    else {
        panic!("no crash");
    };
    assert_eq!((process.as_str(), pid, signal, exception), ("", None, None, None));
    assert_eq!((termination, text.as_str()), (None, ""));
    assert_eq!(captured_wall_ms, Some(1_770_609_496_000), "the header's own time");
    let (_, jetsam) = reading(
        b"{\"bug_type\":298}\n{\"memoryStatus\":{\"pageSize\":16384},\"processes\":\
          [{\"name\":\"a\",\"pid\":-1,\"rpages\":2,\"reason\":\"highwater\"},\
           {\"name\":\"b\",\"reason\":\"\"},{\"rpages\":18446744073709551615,\"reason\":\"x\"},7]}",
    )
    .unwrap();
    assert_eq!(jetsam.text(), "victim a unknown highwater 32768\nvictim  unknown x unknown\n");
}

#[test]
fn every_torn_file_asks_for_another_try() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports/panic.ips");
    let whole = fs::read_to_string(path).unwrap();
    let whole = whole.trim_end();
    for end in 0..whole.len() {
        let torn = reading(&whole.as_bytes()[..end]);
        assert!(matches!(torn, Err(ReportError::Partial)), "{end}: {torn:?}");
    }
    assert!(reading(whole.as_bytes()).is_ok());
    // Blocks that were allocated and not written yet.
    for torn in [
        format!("{HEADER}\n\0\0\0\0"),
        format!("{HEADER}\n{{\"pid\":1,\0\0\0"),
        "\0\0\0\0".to_owned(),
        format!("\0\0\n{HEADER}\n{{}}"),
        "  \n".to_owned(),
    ] {
        assert!(matches!(reading(torn.as_bytes()), Err(ReportError::Partial)), "{torn:?}");
    }
}

#[test]
fn what_is_no_report_is_refused_for_good() {
    let deep = format!("{HEADER}\n{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_object = format!("{HEADER}\n{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    let no_line = format!("{{\"a\":\"{}", "x".repeat(70_000));
    let late_header = format!("{{\"a\":\"{}\"}}\n{{}}", "x".repeat(70_000));
    for bytes in [
        b"plain text".as_slice(),
        b"[1,2]\n{}",
        b"{\"bug_type\":\"309\"\n{}",
        b"{}\n{}",
        b"{\"bug_type\":null}\n{}",
        b"{\"bug_type\":\"309\"}\n[]",
        b"{\"bug_type\":\"309\"}\nplain text",
        b"\xff\xfe\n{}",
        deep.as_bytes(),
        deep_object.as_bytes(),
        no_line.as_bytes(),
        late_header.as_bytes(),
    ] {
        let refused = reading(bytes);
        assert!(matches!(refused, Err(ReportError::NotAReport { .. })), "{refused:?}");
    }
    let other = reading(b"{\"bug_type\":\"288\"}\n{}");
    assert!(matches!(other, Err(ReportError::OtherKind { bug_type }) if bug_type == "288"));
}

#[test]
fn text_that_is_no_utf_8_costs_only_itself() {
    let body = b"{\"procName\":\"a\xffb\",\"pid\":7,\"asi\":{\"lib\":[\"x\\u0000\\u001b[31my\"]}}";
    let file = [HEADER.as_bytes(), b"\n", body].concat();
    let (_, report) = reading(&file).unwrap();
    let Report::Crash { process, pid, text, .. } = report else { panic!("no crash") };
    assert_eq!((process.as_str(), pid), ("a\u{fffd}b", Some(7)));
    assert_eq!(text, "asi lib: x  [31my");
}

#[test]
fn what_a_library_said_cannot_pass_for_another_part_of_the_report() {
    let forged = serde_json::json!({
        "procName": "a",
        "asi": { "lib\nframe ibv_reg_mr (a)": ["x\nframe tbt_post_recv (b)"] },
        "threads": [{ "triggered": true, "frames": [{ "symbol": "x\nframe tbt_post_recv (c)" }] }],
    });
    let (_, report) = reading(format!("{HEADER}\n{forged}").as_bytes()).unwrap();
    assert_eq!(signature(&report), None, "{}", report.text());
}

#[test]
fn texts_are_bounded() {
    let (long, name) = ("ä".repeat(10_000), "ä".repeat(500));
    let body = serde_json::json!({
        "procName": name,
        "asi": { "lib": vec![long; 40] },
        "threads": [{ "triggered": true, "frames": vec![serde_json::json!({ "symbol": name }); 1000] }],
    });
    let header = serde_json::json!({ "bug_type": "309", "incident_id": "é".repeat(1_000) });
    let (id, report) = reading(format!("{header}\n{body}").as_bytes()).unwrap();
    assert!(id.len() <= 255);
    let Report::Crash { process, text, .. } = report else { panic!("no crash") };
    assert!(process.len() <= 255 && text.len() <= REPORT_TEXT_BYTES_MAX);
    assert!(text.len() > REPORT_TEXT_BYTES_MAX / 2, "{}", text.len());
}

#[test]
fn a_huge_report_is_named_and_not_read() {
    let folder = tempfile::tempdir().unwrap();
    for (header, expected) in
        [(HEADER, "A-1"), ("{\"bug_type\":\"210\"}", "huge.ips"), ("no json", "huge.ips")]
    {
        let path = folder.path().join("huge.ips");
        let mut file = fs::File::create(&path).unwrap();
        writeln!(file, "{header}").unwrap();
        // Sparse: it takes no disk.
        file.set_len(REPORT_BYTES_MAX + 1).unwrap();
        match read_report(&path) {
            Err(ReportError::TooLarge { id, size_bytes }) => {
                assert_eq!((id.as_str(), size_bytes), (expected, REPORT_BYTES_MAX + 1));
            }
            other => panic!("{other:?}"),
        }
    }
    let stackshot = folder.path().join("stacks.ips");
    let mut file = fs::File::create(&stackshot).unwrap();
    writeln!(file, "{{\"bug_type\":\"288\"}}").unwrap();
    file.set_len(REPORT_BYTES_MAX + 1).unwrap();
    assert!(matches!(read_report(&stackshot), Err(ReportError::OtherKind { .. })));
}

#[test]
fn only_a_regular_file_is_opened_and_nothing_waits() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("real.ips"), format!("{HEADER}\n{{}}")).unwrap();
    symlink(at("real.ips"), at("link.ips")).unwrap();
    fs::create_dir(at("folder.ips")).unwrap();
    nix::unistd::mkfifo(&at("fifo.ips"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket.ips")).unwrap();
    for name in ["link.ips", "folder.ips", "fifo.ips", "socket.ips"] {
        let refused = read_report(&at(name));
        assert!(matches!(refused, Err(ReportError::NotAReport { .. })), "{name}: {refused:?}");
    }
    assert!(matches!(read_report(&at("none.ips")), Err(ReportError::Io(_))));
    assert!(read_report(&at("real.ips")).is_ok());
}
