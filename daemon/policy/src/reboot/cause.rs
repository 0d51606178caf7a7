//! What a reboot is for: the closed list of kinds, and how a cause is told in one line.

use super::Cause;

/// Wired memory has leaked.
pub const LEAK: &str = "leak";
/// An operator's order.
pub const ORDERED: &str = "ordered";
/// All restarts of the ranks in one window are spent.
pub const RESTARTS: &str = "restarts";
/// The RDMA fabric is spent, and the ring may not carry an epoch.
pub const FABRIC: &str = "fabric";
/// A signature whose action is a reboot; a cause's kind is then its id.
pub const SIGNATURE: &str = "signature";
/// What is none of these: told by another version.
pub const OTHER: &str = "other";

/// Every label that [`Cause::label`] gives.
pub const LABELS: [&str; 6] = [LEAK, ORDERED, RESTARTS, FABRIC, SIGNATURE, OTHER];

impl Cause {
    /// In one line, as events tell it.
    pub fn told(&self) -> String {
        format!("{}: {}", self.kind, self.evidence)
    }

    /// The label of a cause that was [`told`](Self::told).
    pub fn label(told: &str) -> &'static str {
        let kind = told.split(':').next().unwrap_or_default();
        let own = [LEAK, ORDERED, RESTARTS, FABRIC];
        // As the catalogue takes an id: lower-case words joined by hyphens.
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match own.into_iter().find(|known| *known == kind) {
            Some(known) => known,
            None if kind.split('-').all(is_word) => SIGNATURE,
            None => OTHER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_label_and_what_is_none_is_other() {
        for (kind, label) in [
            (LEAK, LEAK),
            (ORDERED, ORDERED),
            (RESTARTS, RESTARTS),
            (FABRIC, FABRIC),
            ("rdma-pairing-stale", SIGNATURE),
            ("s2", SIGNATURE),
            ("", OTHER),
            ("A word", OTHER),
            ("-", OTHER),
        ] {
            let cause = Cause { kind: kind.into(), evidence: "leak: 412 GiB: x".into() };
            assert_eq!(Cause::label(&cause.told()), label, "{kind}");
            assert!(LABELS.contains(&label));
        }
    }
}
