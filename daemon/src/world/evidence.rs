//! Evidence of crashes: lines of the children's output, how they ended, and crash reports, each
//! known by the catalogue of signatures.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecursiveMode, Watcher};
use tandem_evidence::{Catalogue, Exit, Report, ReportFolder, Signature};
use tandem_policy::{EVIDENCE_MAX, Ended, Evidence, EvidenceSource, What};
use tokio::{sync::mpsc, time::timeout};
use tracing::{info, warn};

use super::child::{Shared, Who};

/// How often report folders are looked at although nothing was announced: a hint can be lost.
const RESCAN: Duration = Duration::from_secs(60);

/// The same while a folder is known to have more: reports that came many at once, or a torn one.
const RESCAN_SOON: Duration = Duration::from_millis(500);

/// Pause after a hint: reports are written beside and renamed, some in several steps.
const SETTLE: Duration = Duration::from_millis(500);

/// Where the platform writes crash reports.
fn platform_dirs() -> Vec<PathBuf> {
    if cfg!(target_os = "macos") {
        vec!["/Library/Logs/DiagnosticReports".into()]
    } else {
        Vec::new()
    }
}

/// A catalogue that several tasks read.
#[derive(Clone)]
pub(super) enum Signatures {
    Builtin(&'static Catalogue),
    Loaded(Arc<Catalogue>),
}

impl Deref for Signatures {
    type Target = Catalogue;

    fn deref(&self) -> &Catalogue {
        match self {
            Self::Builtin(catalogue) => catalogue,
            Self::Loaded(catalogue) => catalogue,
        }
    }
}

/// The catalogue that the config names, or the built-in one.
pub(super) fn catalogue(path: &Path) -> Result<Signatures, tandem_evidence::CatalogueError> {
    if path.as_os_str().is_empty() {
        Ok(Signatures::Builtin(Catalogue::builtin()))
    } else {
        Catalogue::load(path).map(|catalogue| Signatures::Loaded(Arc::new(catalogue)))
    }
}

/// The catalogue's kind of what carries data between ranks.
const KIND_FABRIC: &str = "fabric";

/// Notes what a line of a child's output tells.
pub(super) fn of_line(shared: &Shared, catalogue: &Catalogue, who: Who, epoch: u64, line: &str) {
    if let Some(signature) = catalogue.match_output(line) {
        note(shared, signature, line, source(who, epoch));
    }
}

/// Notes what a child's end tells.
pub(super) fn of_exit(shared: &Shared, catalogue: &Catalogue, who: Who, epoch: u64, how: &Ended) {
    let exit = match how {
        Ended::Code(code) => Exit::Code(*code),
        Ended::Signal(signal) => Exit::Signal(*signal),
        Ended::NotStarted(_) | Ended::Unseen => return,
    };
    if let Some(signature) = catalogue.match_exit(&exit) {
        note(shared, signature, &how.to_string(), source(who, epoch));
    }
}

const fn source(who: Who, epoch: u64) -> EvidenceSource {
    match who {
        Who::Rank(rank) => EvidenceSource::Rank { rank, epoch },
        Who::Gateway => EvidenceSource::Gateway,
    }
}

/// Keeps one piece of evidence a source and signature; the oldest give way.
fn note(shared: &Shared, signature: &Signature, text: &str, source: EvidenceSource) {
    let hit = signature.hit(text);
    let evidence = Evidence {
        rung: hit.action,
        is_of_fabric: signature.kind.as_deref() == Some(KIND_FABRIC),
        id: hit.id,
        text: hit.text,
        remedy: signature.remedy.clone(),
        source,
    };
    let is_known = |known: &Evidence| known.id == evidence.id && known.source == evidence.source;
    if shared.facts().evidence.iter().any(is_known) {
        return;
    }
    info!(signature = evidence.id, "found: {}", evidence.text);
    let told = What::Evidence {
        signature: evidence.id.clone(),
        source: in_words(&evidence.source),
        text: evidence.text.clone(),
    };
    shared.change(|facts| {
        facts.tell(told);
        if facts.evidence.len() >= EVIDENCE_MAX {
            facts.evidence.remove(0);
        }
        facts.evidence.push(evidence);
    });
}

fn in_words(source: &EvidenceSource) -> String {
    match source {
        EvidenceSource::Rank { rank, epoch } => format!("rank {rank} of epoch {epoch}"),
        EvidenceSource::Gateway => "the gateway".into(),
        EvidenceSource::Report { report } | EvidenceSource::Panic { report, .. } => {
            format!("report {report}")
        }
    }
}

/// Watches the folders of crash reports for ever.
pub(super) async fn watch_reports(shared: Shared, catalogue: Signatures, configured: Vec<PathBuf>) {
    let dirs = if configured.is_empty() { platform_dirs() } else { configured };
    if dirs.is_empty() {
        return;
    }
    let (hint, mut hints) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is announced too: as a hint it would have us read for ever.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // A full channel holds a hint already.
            let _ = hint.try_send(());
        }
    });
    // Without a watcher the rescan still finds every report, only later.
    let mut watcher = watcher.inspect_err(|error| warn!("crash reports: {error}")).ok();
    let mut folders: Vec<ReportFolder> = Vec::new();
    for dir in dirs {
        if let Some(Err(error)) =
            watcher.as_mut().map(|watcher| watcher.watch(&dir, RecursiveMode::NonRecursive))
        {
            warn!("crash reports in {} are found late: {error}", dir.display());
        }
        folders.push(ReportFolder::new(dir));
    }
    loop {
        for folder in &mut folders {
            for (id, report) in folder.scan(tandem_host::now().boot_ms) {
                of_report(&shared, &catalogue, id.as_str(), &report);
            }
            for refused in folder.take_refused() {
                warn!("{}: {}", refused.path.display(), refused.error);
            }
        }
        let has_more = folders.iter().any(ReportFolder::has_more);
        let _ = timeout(if has_more { RESCAN_SOON } else { RESCAN }, hints.recv()).await;
        tokio::time::sleep(SETTLE).await;
    }
}

fn of_report(shared: &Shared, catalogue: &Catalogue, id: &str, report: &Report) {
    let Some(signature) = catalogue.match_report(report) else { return };
    let report_id = id.to_owned();
    let source = match report {
        Report::Panic { boot_session, .. } => {
            EvidenceSource::Panic { report: report_id, boot: boot_session.clone() }
        }
        _ => EvidenceSource::Report { report: report_id },
    };
    note(shared, signature, &report.text(), source);
}
