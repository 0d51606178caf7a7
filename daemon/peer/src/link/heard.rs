//! What was heard of one node, and which of two accounts is the newer.
//!
//! Accounts of one instance (one life of a supervisor) are numbered. Between two instances no number
//! can tell, a clock may jump, and a counter on disk may be restored from a backup; so each account
//! counts as said *at the earliest* when it was asked for: an answer after its question was sent, a
//! question after the answer before it (the dialler waits for that), and a connection's first
//! question after the handshake began. Another instance is believed only if it spoke after the last
//! account of the known one was taken. What a dead supervisor left in a socket is never that: the
//! question it answers was sent before its successor was heard.

use std::time::Instant;

use tandem_policy::pair::NodeReport;

use super::{Secrets, message::Account};
use crate::manifest::Manifest;

/// What is known of one node by its own accounts.
#[derive(Default)]
pub(super) struct Heard {
    newest: Option<Newest>,
    report: Option<(NodeReport, u64)>,
    secrets: Option<Secrets>,
    manifest: Option<Manifest>,
    /// The digest whose list could not be had.
    manifest_refused: Option<String>,
}

struct Newest {
    instance: String,
    number: u64,
    taken: Instant,
}

/// What became of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It says something new.
    Changed,
    /// It says again what was known.
    Same,
    /// A newer one was known.
    Dropped,
}

impl Heard {
    /// Takes an account, unless a newer one is known. `said_after`: when it was said at the earliest.
    /// `boot_ms`: this node's uptime.
    pub(super) fn take(
        &mut self,
        account: Account,
        said_after: Instant,
        now: Instant,
        boot_ms: u64,
    ) -> Taken {
        let is_newer = match &self.newest {
            None => true,
            Some(newest) if newest.instance == account.instance => account.number > newest.number,
            Some(newest) => said_after > newest.taken,
        };
        if !is_newer {
            return Taken::Dropped;
        }
        let is_other = self.newest.as_ref().is_none_or(|it| it.instance != account.instance);
        self.newest =
            Some(Newest { instance: account.instance, number: account.number, taken: now });
        let Some(report) = account.report else {
            return if is_other { Taken::Changed } else { Taken::Same };
        };
        let is_same = !is_other
            && self.secrets.as_ref() == Some(&account.secrets)
            && self.report.as_ref().is_some_and(|(known, _)| says_the_same(known, &report));
        self.report = Some((report, boot_ms.saturating_sub(account.age_ms)));
        self.secrets = Some(account.secrets);
        if is_same { Taken::Same } else { Taken::Changed }
    }

    /// The newest report, and this node's uptime when it was said.
    pub(super) fn report(&self) -> Option<&(NodeReport, u64)> {
        self.report.as_ref()
    }

    /// The newest secrets.
    pub(super) fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }

    /// Whether the other's list of files is wanted: both digests are known and differ, and the list
    /// was not told yet.
    pub(super) fn wants_manifest(&self, own: &Manifest) -> bool {
        let Some(digest) = self.report.as_ref().and_then(|(it, _)| it.manifest.as_deref()) else {
            return false;
        };
        let is_known = self.manifest.as_ref().is_some_and(|manifest| manifest.digest() == digest);
        digest != own.digest() && !is_known
    }

    /// Takes the other's list of files. One that is not what the report's digest says is kept too: it
    /// may be newer than the report, and [`Self::differences`] uses it only once the two agree.
    pub(super) fn take_manifest(&mut self, manifest: Option<Manifest>) {
        match manifest {
            Some(manifest) => self.manifest = Some(manifest),
            None => {
                self.manifest_refused =
                    self.report.as_ref().and_then(|(report, _)| report.manifest.clone());
            }
        }
    }

    /// Where the other's files differ.
    pub(super) fn differences(&self, node: &str, own: Option<&Manifest>) -> Vec<String> {
        let Some(own) = own else { return Vec::new() };
        let Some(digest) = self.report.as_ref().and_then(|(it, _)| it.manifest.as_deref()) else {
            return Vec::new();
        };
        match &self.manifest {
            _ if digest == own.digest() => Vec::new(),
            _ if self.manifest_refused.as_deref() == Some(digest) => {
                vec![format!(
                    "the list of files on {node} is not there yet, or too long to be told"
                )]
            }
            Some(theirs) if theirs.digest() == digest => {
                own.differences(theirs, ["here", &format!("on {node}")])
            }
            _ => Vec::new(),
        }
    }
}

/// Whether two reports differ in nothing but the time that passed.
pub(super) fn says_the_same(one: &NodeReport, other: &NodeReport) -> bool {
    let timeless = |report: &NodeReport| NodeReport {
        uptime_ms: 0,
        proof: report.proof.map(|(epoch, _)| (epoch, 0)),
        ..report.clone()
    };
    timeless(one) == timeless(other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tandem_policy::{Setup, pair::NodeReport};

    use super::*;
    use crate::manifest::ManifestEntry;

    fn report(phase: &str) -> NodeReport {
        let json = serde_json::json!({
            "node": "b", "version": "", "os": "", "boot": "", "uptime_ms": 0, "plan": [],
            "manifest": null, "refusal": null, "epoch": 0, "phase": phase, "start": null,
            "ranks": [], "is_alone": false, "proof": null, "is_draining": false, "is_held": false,
            "reboot": null, "would_veto": null, "faults": [],
        });
        serde_json::from_value(json).unwrap()
    }

    fn account(instance: &str, number: u64, phase: &str) -> Account {
        Account {
            instance: instance.into(),
            number,
            age_ms: 0,
            report: Some(report(phase)),
            secrets: Secrets::default(),
        }
    }

    #[test]
    fn only_what_is_newer_is_taken() {
        use Taken::{Changed, Dropped, Same};
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Instance, number, what it says, said after, heard at.
        let rows = [
            ("the first", "x", 5, "five", 0, 10, Changed),
            ("the same once more", "x", 5, "replayed", 11, 12, Dropped),
            ("overtaken on another path", "x", 4, "four", 11, 13, Dropped),
            ("a gap", "x", 9, "nine", 0, 14, Changed),
            ("nothing new in it", "x", 10, "nine", 0, 15, Same),
            ("a restart, asked before the old one was last heard", "y", 1, "one", 15, 16, Dropped),
            ("a restart, asked since", "y", 2, "two", 16, 17, Changed),
            ("what the dead one left in a socket", "x", 99, "dead", 16, 18, Dropped),
            ("the new one goes on", "y", 3, "three", 0, 19, Changed),
            ("the new one restarts with a lower number", "z", 1, "three", 20, 21, Changed),
        ];
        let mut heard = Heard::default();
        let mut said = String::new();
        for (what, instance, number, phase, after, now, expected) in rows {
            let taken = heard.take(account(instance, number, phase), at(after), at(now), now);
            assert_eq!(taken, expected, "{what}");
            if taken != Dropped {
                said = phase.into();
            }
            assert_eq!(heard.report().unwrap().0.phase, said, "{what}");
        }
    }

    #[test]
    fn a_report_is_as_old_as_its_supervisor_is_silent() {
        let mut heard = Heard::default();
        let now = Instant::now();
        for (number, age_ms, boot_ms, expected) in
            [(1, 0, 1_000, 1_000), (2, 700, 1_500, 800), (3, u64::MAX, 2_000, 0)]
        {
            let account = Account { age_ms, ..account("x", number, "p") };
            heard.take(account, now, now, boot_ms);
            assert_eq!(heard.report().unwrap().1, expected);
        }
    }

    #[test]
    fn only_passing_time_is_nothing_new() {
        let one = NodeReport { uptime_ms: 1, proof: Some((7, 100)), ..report("p") };
        let rows = [
            (NodeReport { uptime_ms: 2, ..one.clone() }, true),
            (NodeReport { proof: Some((7, 200)), ..one.clone() }, true),
            (NodeReport { proof: Some((8, 100)), ..one.clone() }, false),
            (NodeReport { proof: None, ..one.clone() }, false),
            (NodeReport { is_held: true, ..one.clone() }, false),
        ];
        for (other, is_same) in rows {
            assert_eq!(says_the_same(&one, &other), is_same, "{other:?}");
        }
    }

    #[test]
    fn files_are_compared_only_where_list_and_report_agree() {
        let manifest = |size_bytes| {
            let (path, blake3) = ("a".into(), String::new());
            Manifest::of(vec![ManifestEntry { path, size_bytes, blake3 }])
        };
        let (own, theirs, newer) = (manifest(1), manifest(2), manifest(3));
        let mut heard = Heard::default();
        let hear = |heard: &mut Heard, number, manifest: &Manifest| {
            let digest = Some(manifest.digest().to_owned());
            let mut account = account("x", number, "p");
            account.report = account.report.map(|it| NodeReport { manifest: digest, ..it });
            heard.take(account, Instant::now(), Instant::now(), 0);
        };
        let lines = |heard: &Heard| heard.differences(&Setup::default().node, Some(&own)).len();
        assert!(!heard.wants_manifest(&own), "nothing was heard");
        hear(&mut heard, 1, &own);
        assert!(!heard.wants_manifest(&own), "the digests are equal");
        hear(&mut heard, 2, &theirs);
        assert!(heard.wants_manifest(&own));
        assert_eq!(lines(&heard), 0);
        heard.take_manifest(None);
        assert_eq!(lines(&heard), 1, "that it can't be had is said");
        heard.take_manifest(Some(theirs.clone()));
        assert!(!heard.wants_manifest(&own));
        assert_eq!(lines(&heard), 1);
        hear(&mut heard, 3, &newer);
        assert!(heard.wants_manifest(&own));
        assert_eq!(lines(&heard), 0, "the list is not of this report");
        hear(&mut heard, 4, &own);
        assert_eq!(lines(&heard), 0);
    }
}
