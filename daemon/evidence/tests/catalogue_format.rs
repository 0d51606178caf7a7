//! The catalogue's file: what is refused, and at which line it is said.
#![allow(clippy::unwrap_used)]

use std::fs;

use tandem_evidence::{
    CATALOGUE_BYTES_MAX, Catalogue, CatalogueError, Rung, SIGNATURES_MAX, Source, Trigger, Writer,
};

/// A good entry: seven lines.
const GOOD: &str = r#"[[signature]]
id = "a-b2"
source = "output"
pattern = 'a+b'
meaning = "m"
action = "restart"
remedy = "r"
"#;

/// Line and text of each problem.
fn problems(text: &str) -> Vec<(usize, String)> {
    match Catalogue::parse(text, "here") {
        Err(CatalogueError::Invalid { origin, problems }) => {
            assert_eq!(origin, "here");
            problems.into_iter().map(|problem| (problem.line, problem.what)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_entry_is_read_whole() {
    let text = GOOD.replace("id =", "kind = \"memory\"\nid =");
    let catalogue = Catalogue::parse(&text, "here").unwrap();
    let [signature] = catalogue.signatures() else { panic!("one") };
    assert_eq!(signature.id, "a-b2");
    assert_eq!(signature.source, Source::Output);
    assert_eq!(signature.trigger, Trigger::Pattern("a+b".into()));
    assert_eq!((signature.meaning.as_str(), signature.remedy.as_str()), ("m", "r"));
    assert_eq!(signature.action, Rung::Restart);
    assert_eq!(signature.kind.as_deref(), Some("memory"));
    assert_eq!(catalogue.get("a-b2"), Some(signature));
    assert_eq!(catalogue.get("a-b"), None);
}

#[test]
fn each_mistake_is_told_with_its_line() {
    let long = "x".repeat(3_000);
    for (from, to, line, what) in [
        ("id = \"a-b2\"", "id = \"A b\"", 2, "lower-case words"),
        ("id = \"a-b2\"", "id = \"a--b\"", 2, "lower-case words"),
        ("id = \"a-b2\"", "id = 7", 2, "`id` is a string"),
        ("id = \"a-b2\"", "id = \"\"", 2, "`id` has 1 to 64 bytes"),
        ("id = \"a-b2\"\n", "", 1, "`id` is missing"),
        ("\"output\"", "\"stdout\"", 3, "unknown source \"stdout\": one of output, exit,"),
        ("source = \"output\"\n", "", 1, "`source` is missing"),
        ("'a+b'", "'a('", 4, "bad `pattern`: unclosed group"),
        ("'a+b'", "'(?=a)'", 4, "bad `pattern`: look-around"),
        ("'a+b'", "'(?:a{1000}){1000}'", 4, "bad `pattern`: Compiled regex exceeds size limit"),
        ("'a+b'", "'a*'", 4, "matches an empty text"),
        ("'a+b'", &format!("'{long}'"), 4, "`pattern` has 1 to 1024 bytes"),
        ("pattern = 'a+b'\n", "", 1, "source \"output\" needs `pattern`"),
        ("pattern = 'a+b'", "code = 7", 4, "source \"output\" takes one of: pattern"),
        ("'a+b'", "'a+b'\ncode = 7", 5, "source \"output\" takes one of: pattern"),
        ("\"m\"", "\"  \"", 5, "`meaning` has 1 to"),
        ("\"m\"", &format!("\"{long}\""), 5, "`meaning` has 1 to"),
        ("meaning = \"m\"\n", "", 1, "`meaning` is missing"),
        ("\"restart\"", "\"pray\"", 6, "unknown action \"pray\": one of none, reassert, retune,"),
        ("action = \"restart\"\n", "", 1, "`action` is missing"),
        ("remedy = \"r\"\n", "", 1, "`remedy` is missing"),
        ("remedy = \"r\"", "remedy = [\"r\"]", 7, "`remedy` is a string"),
        ("remedy = \"r\"", "remedy = \"r\"\nremdy = \"r\"", 8, "unknown key `remdy`: one of id,"),
        ("remedy = \"r\"", "remedy = \"r\"\nkind = \"A\"", 8, "`kind` is lower-case words"),
        ("[[signature]]", "x = 1\n[[signature]]", 1, "unknown key `x`"),
        ("[[signature]]", "[signature]", 1, "[[signature]]"),
        ("\"m\"", "\"m", 5, ""),
        ("\"m\"", "\"m\"\nid = \"c\"", 6, "duplicate key"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let told = problems(&text);
        assert_eq!(told.first().map(|(line, _)| *line), Some(line), "{to}: {told:?}");
        assert!(told.iter().any(|(_, told)| told.contains(what)), "{to}: {told:?}");
    }
}

#[test]
fn an_exit_has_one_code_or_one_signal_and_a_symptom_has_neither() {
    let entry = |source: &str, trigger: &str| {
        GOOD.replace("\"output\"", &format!("{source:?}")).replace("pattern = 'a+b'", trigger)
    };
    for (source, trigger) in [
        ("exit", "code = 0"),
        ("exit", "code = 0xff"),
        ("exit", "signal = 64"),
        ("symptom", ""),
        ("jetsam", "pattern = 'a'"),
        ("panic", "pattern = 'a'"),
        ("crash-report", "pattern = 'a'"),
    ] {
        assert!(Catalogue::parse(&entry(source, trigger), "").is_ok(), "{source} {trigger}");
    }
    for (source, trigger, line, what) in [
        ("exit", "", 1, "needs `code` or `signal`"),
        ("exit", "code = 1\nsignal = 2", 5, "takes one of: code, signal"),
        ("exit", "code = 256", 4, "`code` is a number from 0 to 255"),
        ("exit", "code = -1", 4, "`code` is a number from 0 to 255"),
        ("exit", "code = \"1\"", 4, "`code` is a number from 0 to 255"),
        ("exit", "code = 99999999999999999999", 4, ""),
        ("exit", "signal = 0", 4, "`signal` is a number from 1 to 64"),
        ("exit", "pattern = 'a'", 4, "takes one of: code, signal"),
        ("symptom", "pattern = 'a'", 4, "takes no pattern, code or signal"),
        ("jetsam", "", 1, "needs `pattern`"),
        ("panic", "", 1, "needs `pattern`"),
        ("crash-report", "", 1, "needs `pattern`"),
    ] {
        let told = problems(&entry(source, trigger));
        assert_eq!(told.first().map(|(line, _)| *line), Some(line), "{source} {trigger}: {told:?}");
        assert!(told[0].1.contains(what), "{source} {trigger}: {told:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_files_order() {
    let other = GOOD.replace("a-b2", "c").replace("a+b", "c").replace("restart", "pray");
    let text = format!("{}{other}{GOOD}", GOOD.replace("\"output\"", "\"stdout\""));
    let told = problems(&text);
    let lines: Vec<_> = told.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [3, 13], "{told:?}");
    let error = Catalogue::parse(&text, "some/file.toml").unwrap_err().to_string();
    assert!(error.starts_with("some/file.toml:\n  line 3: unknown source"), "{error}");
}

#[test]
fn no_id_and_no_trigger_comes_twice() {
    let same_id = format!("{GOOD}{}", GOOD.replace("a+b", "c"));
    assert_eq!(problems(&same_id), [(8, "the id \"a-b2\" is taken".into())]);
    let same_pattern = format!("{GOOD}{}", GOOD.replace("a-b2", "c"));
    assert_eq!(problems(&same_pattern), [(8, "\"c\" matches the same as \"a-b2\"".into())]);
    let elsewhere = format!("{GOOD}{}", GOOD.replace("a-b2", "c").replace("output", "panic"));
    assert!(Catalogue::parse(&elsewhere, "").is_ok());
}

#[test]
fn an_empty_a_foreign_and_an_endless_catalogue_are_refused() {
    for text in ["", "# nothing\n", "signature = []\n"] {
        assert_eq!(problems(text)[0].1, "no [[signature]]", "{text:?}");
    }
    for text in ["signature = 7", "signature = [7]", "[signature]"] {
        assert!(problems(text)[0].1.contains("[[signature]]"), "{text:?}");
    }
    assert_eq!(problems("a = 1\n\u{1}")[0].0, 2, "no TOML");
    let many: String = (0..=SIGNATURES_MAX)
        .map(|n| GOOD.replace("a-b2", &format!("s{n}")).replace("a+b", &format!("p{n}e")))
        .collect();
    let line = SIGNATURES_MAX * 7 + 1;
    assert_eq!(problems(&many), [(line, format!("more than {SIGNATURES_MAX} signatures"))]);
    // A list of mistakes has an end.
    let wrong: String = (0..300).map(|n| format!("x{n} = 1\n")).collect();
    assert_eq!(problems(&wrong).len(), 100);
}

#[test]
fn a_file_is_loaded_by_its_path_and_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signatures.toml");
    fs::write(&path, GOOD).unwrap();
    assert_eq!(Catalogue::load(&path).unwrap().signatures().len(), 1);
    fs::write(&path, GOOD.replace("restart", "pray")).unwrap();
    let error = Catalogue::load(&path).unwrap_err().to_string();
    assert!(error.contains("signatures.toml:\n  line 6: unknown action"), "{error}");
    let pad = |bytes: u64| format!("{GOOD}#{}", "x".repeat(bytes as usize - GOOD.len() - 1));
    fs::write(&path, pad(CATALOGUE_BYTES_MAX)).unwrap();
    assert!(Catalogue::load(&path).is_ok());
    fs::write(&path, pad(CATALOGUE_BYTES_MAX + 1)).unwrap();
    assert!(matches!(Catalogue::load(&path), Err(CatalogueError::TooLarge { .. })));
    fs::write(&path, b"\xff").unwrap();
    assert!(matches!(Catalogue::load(&path), Err(CatalogueError::Read { .. })));
    assert!(matches!(Catalogue::load(dir.path()), Err(CatalogueError::Read { .. })));
    let missing = dir.path().join("none.toml");
    assert!(matches!(Catalogue::load(&missing), Err(CatalogueError::Read { .. })));
}

#[test]
fn the_first_in_the_file_wins() {
    let special = GOOD.replace("a-b2", "special").replace("a+b", "aab");
    let line = "an aab";
    for (text, first) in
        [(format!("{special}{GOOD}"), "special"), (format!("{GOOD}{special}"), "a-b2")]
    {
        let catalogue = Catalogue::parse(&text, "").unwrap();
        assert_eq!(catalogue.match_output(Writer::Rank, line).unwrap().id, first);
    }
}

#[test]
fn an_entry_says_whose_output_it_is_looked_for_in() {
    use tandem_evidence::Process;
    let with = |process: &str| GOOD.replace("pattern", &format!("process = {process:?}\npattern"));
    for (process, expected, by_rank, by_gateway) in [
        ("rank", Process::Rank, true, false),
        ("any", Process::Any, true, true),
        ("other", Process::Other, false, false),
    ] {
        let catalogue = Catalogue::parse(&with(process), "").unwrap();
        assert_eq!(catalogue.signatures()[0].process, expected);
        let is_found = |writer| catalogue.match_output(writer, "INFO an aab").is_some();
        assert_eq!(is_found(Writer::Rank), by_rank, "{process}");
        assert_eq!(is_found(Writer::Gateway), by_gateway, "{process}");
        assert!(!catalogue.explain("INFO an aab")[0].is_guess, "{process}");
    }
    assert_eq!(Catalogue::parse(GOOD, "").unwrap().signatures()[0].process, Process::Rank);
    let told = problems(&with("kernel"));
    assert!(told[0].0 == 4 && told[0].1.contains("one of rank, any, other"), "{told:?}");
    let elsewhere = with("rank").replace("\"output\"", "\"panic\"");
    let told = problems(&elsewhere);
    assert!(told[0].0 == 4 && told[0].1.contains("is for source \"output\" only"), "{told:?}");
}

#[test]
fn a_hint_of_the_systems_log_leads_to_nothing() {
    let hint = GOOD.replace("\"output\"", "\"system-log\"");
    for rung in Rung::ALL {
        let text = hint.replace("\"restart\"", &format!("{:?}", rung.name()));
        if rung == Rung::None {
            assert!(Catalogue::parse(&text, "").is_ok());
            continue;
        }
        let told = problems(&text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0 == 6 && told[0].1.contains("takes action \"none\" only"), "{told:?}");
    }
}
