//! The model's files, of a machine alone: sound, or damaged where an epoch answers garbage for it.

use tandem_policy::{Artifacts, ManifestSeen, State, gang};

use super::Node;

/// What is in the files.
#[derive(Default)]
pub(crate) struct Files {
    /// Since when they have been damaged, in milliseconds of true time.
    damaged_at: Option<u64>,
    /// Whether the sound ones are remembered as those with which serving was proven.
    is_kept: bool,
}

impl Node {
    pub(super) fn manifest(&self) -> Option<ManifestSeen> {
        if !matches!(self.artifacts(), Artifacts::Complete { .. }) {
            return None;
        }
        if let Some(around) = &self.around {
            // What nodes differ in is told by their digests.
            let (digest, changed) = (around.manifest.clone(), Some(Vec::new()));
            return Some(ManifestSeen { digest, since_ms: 0, changed });
        }
        let damage = self.files.damaged_at;
        let lines = damage.map(|_| "model-2.safetensors: the same size, other content before");
        Some(ManifestSeen {
            digest: if damage.is_some() { "damaged" } else { "sound" }.into(),
            since_ms: damage.unwrap_or(0).saturating_sub(self.machine.booted_at),
            changed: self.files.is_kept.then(|| lines.map(str::to_owned).into_iter().collect()),
        })
    }

    /// What an epoch loads as it is begun: where it answers garbage, the files of every other one are
    /// why.
    pub(super) fn load_files(&mut self, epoch: u64, garbles: bool) {
        let is_damaged = garbles && epoch.is_multiple_of(2) && self.around.is_none();
        let decided_at =
            self.shown.as_ref().map_or(self.t, |(_, now)| now.boot_ms + self.machine.booted_at);
        self.files.damaged_at = is_damaged.then_some(decided_at);
    }

    /// Remembers the files as they are.
    pub(super) fn keep_manifest(&mut self, digest: &str) {
        if self.manifest().is_some_and(|manifest| manifest.digest == digest) {
            self.met.mark("files remembered");
            self.files.is_kept = true;
            if self.files.damaged_at.is_some() {
                self.check(Err("files that bring garbage were remembered as proven".into()));
            }
        }
    }

    /// Whether the last epoch loaded files that are known to have been damaged before it was begun.
    pub(crate) fn loaded_damaged_files(&self, state: &State) -> bool {
        let shown = self.shown.as_ref().and_then(|(seen, _)| seen.manifest.as_ref());
        let is_told = |manifest: &ManifestSeen| {
            manifest.changed.as_ref().is_some_and(|changed| !changed.is_empty())
                && manifest.since_ms <= state.scratch.begun_ms
        };
        state.scratch.begun_epoch == Some(state.epoch) && shown.is_some_and(is_told)
    }

    /// Whether the ranks may be held because of their files.
    pub(super) fn is_held_for_files(&self) -> bool {
        let saved = self.disk.saved.as_ref().map(|saved| &saved.gang);
        self.files.damaged_at.is_some() && matches!(saved, Some(gang::Phase::Held { .. }))
    }
}
