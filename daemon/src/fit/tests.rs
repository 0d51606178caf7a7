use super::*;

/// The real model that the test command names, if it does.
fn config() -> Option<Config> {
    let path = std::env::var_os("TANDEM_MODEL")?;
    let mut config = Config::default();
    config.model.path = path.into();
    Some(config)
}

fn ceiling(bytes: u64) -> Option<Ceiling> {
    Some(Ceiling { bytes, origin: "a test".into() })
}

#[test]
fn the_real_model_fits_with_room_and_not_a_byte_under_its_need() {
    let Some(config) = config() else { return };
    let report = report_under(&config, None).unwrap();
    let need = report.verdict.need_bytes.unwrap();
    for part in ["rank 0 (local)", "rank 1 (local)", "weights", "KV cache", "prefill peak"] {
        assert!(report.text.contains(part), "{}", report.text);
    }
    let (exact, short) =
        (report_under(&config, ceiling(need)).unwrap(), report_under(&config, ceiling(need - 1)));
    assert_eq!((exact.exit_code(), exact.verdict.need_bytes), (exit::OK, Some(need)));
    let short = short.unwrap();
    assert_eq!(short.exit_code(), exit::USAGE);
    let why = short.verdict.too_much.unwrap();
    assert!(why.contains("engine.context_tokens") && short.text.contains(&why), "{why}");
}

#[test]
fn a_folder_without_a_model_is_an_error_and_no_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.model.path = folder.path().into();
    let error = report_under(&config, None).err().unwrap();
    assert_eq!(error.exit_code(), exit::MODEL);
}

#[test]
fn a_verdict_is_the_line_that_the_supervisor_reads() {
    let rows = [
        Verdict { need_bytes: Some(5), ..Verdict::default() },
        Verdict { too_much: Some("a key".into()), ..Verdict::default() },
        Verdict { error: Some("no model".into()), ..Verdict::default() },
    ];
    for verdict in rows {
        let line = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&line).unwrap(), verdict, "{line}");
    }
}
