//! Evidence of crashes: lines of the children's output, how they ended, crash reports and hints of the
//! system's log, each known by the catalogue of signatures.

use std::{
    io,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tandem_evidence::{
    Catalogue, CatalogueError, Exit, LogLine, Report, ReportError, ReportFolder, Signature, Writer,
};
use tandem_policy::{EVIDENCE_MAX, Ended, Evidence, EvidenceSource, KILLED_FOR_MEMORY, Rung, What};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{
    child::{Shared, Who},
    hints::Hints,
};

/// How often report folders are looked at although nothing was announced: a hint can be lost.
const RESCAN: Duration = Duration::from_secs(60);

/// The same while a folder is known to have more: reports that came many at once, or a torn one.
const RESCAN_SOON: Duration = Duration::from_millis(500);

/// Pause after a hint: reports are written beside and renamed, some in several steps.
const SETTLE: Duration = Duration::from_millis(500);

/// Where macOS puts reports of daemons and of the kernel. Those of processes in a user's session are in
/// the same place under the user's home. Reports that were sent are moved to `Retired` in either, which
/// [`ReportFolder`] looks into.
const SYSTEM_REPORTS: &str = "/Library/Logs/DiagnosticReports";
const USER_REPORTS: &str = "Library/Logs/DiagnosticReports";

/// A folder to watch.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    /// Whether it is trouble if it is not there: a user's is made with the first report in it.
    is_expected: bool,
}

/// The folders that the config names; for none those of the platform, of which only macOS has any.
fn places(configured: Vec<PathBuf>, is_macos: bool, home: Option<&Path>) -> Vec<Place> {
    if !configured.is_empty() || !is_macos {
        let place = |path| Place { path, is_expected: true };
        return configured.into_iter().map(place).collect();
    }
    let system = Place { path: SYSTEM_REPORTS.into(), is_expected: true };
    let of_user = home.map(|home| Place { path: home.join(USER_REPORTS), is_expected: false });
    let is_other = |place: &Place| place.path != Path::new(SYSTEM_REPORTS);
    [system].into_iter().chain(of_user.filter(is_other)).collect()
}

/// A catalogue that several tasks read.
#[derive(Clone)]
pub(super) enum Signatures {
    Builtin(&'static Catalogue),
    Loaded(Arc<Catalogue>),
}

impl Signatures {
    pub(super) fn built_in() -> Self {
        Self::Builtin(Catalogue::builtin())
    }
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
pub(super) fn catalogue(path: &Path) -> Result<Signatures, CatalogueError> {
    if path.as_os_str().is_empty() {
        Ok(Signatures::built_in())
    } else {
        Catalogue::load(path).map(|catalogue| Signatures::Loaded(Arc::new(catalogue)))
    }
}

/// What is wrong with the catalogue that the config names, and what to do about it.
pub(super) fn unusable(error: CatalogueError) -> String {
    let why = anyhow::Error::new(error);
    format!(
        "host.signatures: {why:#}; mend that file, or leave the key empty for the built-in ones"
    )
}

/// The catalogue's kind of what carries data between ranks.
const KIND_FABRIC: &str = "fabric";

/// Notes what a line of a child's output tells.
pub(super) fn of_line(shared: &Shared, catalogue: &Catalogue, who: Who, epoch: u64, line: &str) {
    if let Some(signature) = catalogue.match_output(writer(who), line) {
        note(shared, signature, line, source(who, epoch));
    }
}

/// Notes what a child's end tells.
pub(super) fn of_exit(shared: &Shared, catalogue: &Catalogue, who: Who, epoch: u64, how: &Ended) {
    let for_memory = is_for_memory(shared, who, how, tandem_host::memory_kills());
    if let Some(signature) = catalogue.get(KILLED_FOR_MEMORY).filter(|_| for_memory) {
        return note(shared, signature, &format!("{how}, for memory"), source(who, epoch));
    }
    let exit = match how {
        Ended::Code(code) => Exit::Code(*code),
        Ended::Signal(signal) => Exit::Signal(*signal),
        Ended::NotStarted(_) | Ended::Unseen => return,
    };
    if let Some(signature) = catalogue.match_exit(&exit) {
        note(shared, signature, &how.to_string(), source(who, epoch));
    }
}

/// Whether a child was killed, not by this supervisor, while the kernel killed for memory.
fn is_for_memory(shared: &Shared, who: Who, how: &Ended, kills: Option<u64>) -> bool {
    let now = Instant::now();
    let mut facts = shared.facts();
    facts.memory_kills.see(kills, now);
    let are_recent = facts.memory_kills.are_recent(now);
    let is_ours = facts.child(who).is_some_and(|child| child.sent_kill);
    *how == Ended::Signal(Signal::SIGKILL as i32) && are_recent && !is_ours
}

const fn writer(who: Who) -> Writer {
    match who {
        Who::Rank(_) => Writer::Rank,
        Who::Gateway => Writer::Gateway,
    }
}

const fn source(who: Who, epoch: u64) -> EvidenceSource {
    match who {
        Who::Rank(rank) => EvidenceSource::Rank { rank, epoch },
        Who::Gateway => EvidenceSource::Gateway,
    }
}

/// Notes what a line of the system's log hints at: it is told each time that it is asked for.
pub(super) fn of_system_log(shared: &Shared, signature: &Signature, line: &LogLine) {
    let source = EvidenceSource::SystemLog { process: line.sender.name().into() };
    // Whatever the signature asks for: a hint leads to nothing.
    tell(shared, Evidence { rung: Rung::None, ..evidence(signature, &line.text, source) });
}

/// Keeps one piece of evidence a source and signature; the oldest give way.
fn note(shared: &Shared, signature: &Signature, text: &str, source: EvidenceSource) {
    let evidence = evidence(signature, text, source);
    let is_known = |known: &Evidence| known.id == evidence.id && known.source == evidence.source;
    if !shared.facts().evidence.iter().any(is_known) {
        tell(shared, evidence);
    }
}

fn evidence(signature: &Signature, text: &str, source: EvidenceSource) -> Evidence {
    let hit = signature.hit(text);
    let remedy = signature.remedy.clone();
    Evidence {
        rung: hit.action,
        is_of_fabric: signature.kind.as_deref() == Some(KIND_FABRIC),
        id: hit.id,
        text: hit.text,
        remedy,
        source,
    }
}

fn tell(shared: &Shared, evidence: Evidence) {
    info!(signature = evidence.id, "found: {}", evidence.text);
    let told = What::Evidence {
        signature: evidence.id.clone(),
        source: in_words(&evidence.source),
        text: evidence.text.clone(),
    };
    shared.change(|facts| {
        facts.tell(told);
        keep(&mut facts.evidence, evidence);
    });
}

/// Adds to what is kept: in place of the same from the same source, and where there is no room in place of
/// the oldest hint, else of the oldest. A hint takes the place of no evidence.
fn keep(kept: &mut Vec<Evidence>, new: Evidence) {
    let is_hint = |evidence: &Evidence| matches!(evidence.source, EvidenceSource::SystemLog { .. });
    kept.retain(|known| known.id != new.id || known.source != new.source);
    if kept.len() >= EVIDENCE_MAX {
        match kept.iter().position(is_hint) {
            Some(oldest) => drop(kept.remove(oldest)),
            None if is_hint(&new) => return,
            None => drop(kept.remove(0)),
        }
    }
    kept.push(new);
}

fn in_words(source: &EvidenceSource) -> String {
    match source {
        EvidenceSource::Rank { rank, epoch } => format!("rank {rank} of epoch {epoch}"),
        EvidenceSource::Gateway => "the gateway".into(),
        EvidenceSource::Report { report } | EvidenceSource::Panic { report, .. } => {
            format!("report {report}")
        }
        EvidenceSource::SystemLog { process } => format!("unified log, {process}"),
    }
}

/// Watches the folders of crash reports for ever. `home` is that of the user that the children run as.
pub(super) async fn watch_reports(
    shared: Shared,
    catalogue: Signatures,
    configured: Vec<PathBuf>,
    home: Option<PathBuf>,
) {
    let places = places(configured, cfg!(target_os = "macos"), home.as_deref());
    if places.is_empty() {
        return;
    }
    // Without a watcher the rescan still finds every report, only later.
    let mut hints = Hints::new("crash reports");
    let mut folders: Vec<Folder> = Vec::new();
    for Place { path, is_expected } in places {
        if let Err(error) = hints.watch(&path)
            && (is_expected || path.is_dir())
        {
            warn!("crash reports in {} are found late: {error}", path.display());
        }
        folders.push(Folder { reports: ReportFolder::new(path), is_expected });
    }
    loop {
        let (shared_there, catalogue_there) = (shared.clone(), catalogue.clone());
        let scan = move || {
            let has_more = scan(&shared_there, &catalogue_there, &mut folders);
            (folders, has_more)
        };
        // A disk may let a reader wait for long.
        let (same, has_more) = match spawn_blocking(scan).await {
            Ok(scanned) => scanned,
            Err(error) => return warn!("crash reports are not looked for any more: {error}"),
        };
        folders = same;
        hints.next(if has_more { RESCAN_SOON } else { RESCAN }).await;
        tokio::time::sleep(SETTLE).await;
    }
}

/// A folder that is watched.
struct Folder {
    reports: ReportFolder,
    is_expected: bool,
}

/// Notes what is new in the folders; whether one has more.
fn scan(shared: &Shared, catalogue: &Catalogue, folders: &mut [Folder]) -> bool {
    for Folder { reports, is_expected } in &mut *folders {
        for (id, report) in reports.scan(tandem_host::now().boot_ms) {
            of_report(shared, catalogue, id.as_str(), &report);
        }
        for refused in reports.take_refused() {
            if !*is_expected && refused.path == reports.path() && is_missing(&refused.error) {
                continue;
            }
            warn!("{}: {}", refused.path.display(), refused.error);
        }
    }
    folders.iter().any(|folder| folder.reports.has_more())
}

fn is_missing(error: &ReportError) -> bool {
    matches!(error, ReportError::Io(error) if error.kind() == io::ErrorKind::NotFound)
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

#[cfg(test)]
mod tests;
