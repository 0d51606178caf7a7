//! The model's files: which ones serving was proven with, and what changed of them since.
//!
//! Files rot, half a download lies over a whole model, an import is cut off: an engine that loads such
//! weights may answer nothing, or nonsense, and each start loads the same again. So what was loaded
//! when serving was proven is remembered by its manifest, with other nodes to compare it with or
//! without. Files that differ from it are named. Others that serve are remembered in their place;
//! others that bring garbage are what is wrong.

use crate::{
    Action, ManifestSeen, Observation, Rung, Setup, State, canary,
    fault::{Condition, Kind},
    pair::Mode,
};

/// Most files that are named; how many more there are is told.
const NAMED_MAX: usize = 5;

/// One turn: files that were loaded for an epoch that is proven are to be remembered.
pub(crate) fn step(setup: &Setup, state: &State, seen: &Observation, actions: &mut Vec<Action>) {
    let Some(manifest) = loaded(state, seen) else { return };
    let is_known = manifest.changed.as_ref().is_some_and(Vec::is_empty);
    if !is_known && canary::has_passed(setup, state) {
        actions.push(Action::KeepManifest { digest: manifest.digest.clone() });
    }
}

/// The files that differ from those with which serving was last proven.
pub(crate) fn changed(seen: &Observation) -> Option<Condition> {
    let evidence = named(seen.manifest.as_ref()?)?;
    Some(Condition {
        kind: Kind::ModelChanged,
        evidence,
        rung: Rung::None,
        remedy: "if nobody put another model there, import it again or restore these files; else \
                 nothing: it is over once the next start brings tokens"
            .into(),
    })
}

/// The changed files that the running epoch loaded, in words.
pub(crate) fn suspect(state: &State, seen: &Observation) -> Option<String> {
    loaded(state, seen).and_then(named)
}

/// The files, if they are those that this epoch's ranks loaded: they lay there before this supervisor
/// began it. The fallback's are others.
fn loaded<'a>(state: &State, seen: &'a Observation) -> Option<&'a ManifestSeen> {
    let is_own = state.scratch.begun_epoch == Some(state.epoch) && state.mode == Mode::Pair;
    let manifest = seen.manifest.as_ref().filter(|_| is_own)?;
    (manifest.since_ms <= state.scratch.begun_ms).then_some(manifest)
}

fn named(manifest: &ManifestSeen) -> Option<String> {
    let changed = manifest.changed.as_ref().filter(|changed| !changed.is_empty())?;
    let named = changed.get(..NAMED_MAX).unwrap_or(changed).join("; ");
    let more = match changed.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Some(format!("the model's files changed since serving was last proven: {named}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_files_are_named_and_the_rest_is_counted() {
        let manifest = |changed: Option<Vec<String>>| ManifestSeen {
            digest: "d".into(),
            since_ms: 0,
            changed,
        };
        assert_eq!(named(&manifest(None)), None);
        assert_eq!(named(&manifest(Some(Vec::new()))), None);
        let two = named(&manifest(Some(vec!["a: only now".into(), "b: only before".into()])));
        assert!(two.unwrap().ends_with("proven: a: only now; b: only before"));
        let many = (0..9).map(|n| format!("{n}: only now")).collect();
        let many = named(&manifest(Some(many))).unwrap();
        assert!(many.ends_with("4: only now; and 4 more"), "{many}");
    }
}
