use super::*;

#[test]
fn reports_are_looked_for_where_the_config_says_or_the_system_puts_them() {
    let place = |path: &str, is_expected| Place { path: path.into(), is_expected };
    let system = || place("/Library/Logs/DiagnosticReports", true);
    let of_user = place("/var/tandem/Library/Logs/DiagnosticReports", false);
    let named = || vec![PathBuf::from("/a"), PathBuf::from("/b")];
    let home = Some(Path::new("/var/tandem"));
    for (configured, is_macos, home, expected) in [
        (vec![], false, home, vec![]),
        (vec![], true, None, vec![system()]),
        (vec![], true, home, vec![system(), of_user]),
        (vec![], true, Some(Path::new("/")), vec![system()]),
        (named(), false, home, vec![place("/a", true), place("/b", true)]),
        (named(), true, home, vec![place("/a", true), place("/b", true)]),
    ] {
        assert_eq!(places(configured, is_macos, home), expected);
    }
}

fn found(id: usize, source: EvidenceSource) -> Evidence {
    let (text, remedy) = (String::new(), String::new());
    Evidence { id: format!("id-{id}"), rung: Rung::None, is_of_fabric: false, text, remedy, source }
}

fn hint() -> EvidenceSource {
    EvidenceSource::SystemLog { process: "kernel".into() }
}

#[test]
fn what_is_kept_is_bounded_and_hints_give_way_first() {
    let mut kept = Vec::new();
    for id in 0..2 * EVIDENCE_MAX {
        keep(&mut kept, found(id, hint()));
    }
    assert_eq!(kept.len(), EVIDENCE_MAX);
    for id in 0..EVIDENCE_MAX {
        keep(&mut kept, found(id, EvidenceSource::Gateway));
    }
    let of_gateway = |evidence: &Evidence| evidence.source == EvidenceSource::Gateway;
    assert!(kept.len() == EVIDENCE_MAX && kept.iter().all(of_gateway));
    keep(&mut kept, found(0, hint()));
    assert!(kept.iter().all(of_gateway), "a hint takes the place of no evidence");
    keep(&mut kept, found(EVIDENCE_MAX, EvidenceSource::Gateway));
    assert_eq!(kept.len(), EVIDENCE_MAX);
    assert!(kept[0].id == "id-1" && kept[EVIDENCE_MAX - 1].id == format!("id-{EVIDENCE_MAX}"));
}

#[test]
fn a_hint_asks_for_nothing_and_is_told_as_of_the_unified_log() {
    let shared = Shared::new([0]);
    let catalogue = Catalogue::builtin();
    let line = LogLine {
        sender: tandem_evidence::LogSender::Kernel,
        text: "memorystatus: killing process 9 [tandem] in high band".into(),
        wall_ms: None,
        boot: None,
    };
    // One that would ask for a reboot, were it found by a better source.
    let mut signature = catalogue.match_system_log(&line).unwrap().clone();
    signature.action = Rung::Reboot;
    of_system_log(&shared, &signature, &line);
    of_system_log(&shared, &signature, &line);
    let facts = shared.facts();
    assert_eq!(facts.evidence.len(), 1);
    assert_eq!((facts.evidence[0].rung, &facts.evidence[0].source), (Rung::None, &hint()));
    let told = |what: &What| {
        matches!(what, What::Evidence { signature, source, .. }
            if signature == "log-killed-for-memory" && source == "unified log, kernel")
    };
    assert!(facts.news.len() == 2 && facts.news.iter().all(told), "{:?}", facts.news);
}

#[test]
fn only_a_child_that_the_kernel_killed_while_it_counted_a_kill_died_for_memory() {
    let rank = Who::Rank(0);
    let killed = Ended::Signal(9);
    let rows = [
        (Some(8), &killed, false, true),
        (Some(7), &killed, false, false),
        (None, &killed, false, false),
        (Some(8), &Ended::Signal(11), false, false),
        (Some(8), &Ended::Code(0), false, false),
        (Some(8), &killed, true, false),
    ];
    for (kills, how, is_ours, expected) in rows {
        let shared = Shared::new([0]);
        {
            let mut facts = shared.facts();
            facts.memory_kills.see(Some(7), Instant::now());
            facts.child(rank).unwrap().sent_kill = is_ours;
        }
        assert_eq!(
            is_for_memory(&shared, rank, how, kills),
            expected,
            "{kills:?} {how:?} {is_ours}"
        );
    }
    let id = KILLED_FOR_MEMORY;
    assert!(
        Catalogue::builtin()
            .get(id)
            .is_some_and(|signature| signature.action == tandem_evidence::Rung::Retune),
        "{id}"
    );
}
