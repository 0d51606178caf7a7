//! Parity: all nodes run the same, or none of them starts.
//!
//! Two nodes that differ in a setting, a version or one byte of a file compute different numbers,
//! and nothing but the digest of each step's tokens would tell, hours later.

use super::{COMPONENTS_MAX, Component, NodeReport, PeerSeen, bounded};
use crate::{Observation, Setup};

/// Most differences that are told of one node.
const DIFFERENCES_MAX: usize = 16;

/// Most characters of one value: a digest is shorter.
const VALUE_CHARS_MAX: usize = 80;

/// How another node compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parity {
    /// All that must be equal is.
    Equal,
    /// Nothing is known to differ, but not all was compared; what is missing.
    Unknown(String),
    /// What differs, one a line.
    Unequal(Vec<String>),
}

impl Parity {
    /// Compares a node's account with this node's own.
    pub fn of(setup: &Setup, seen: &Observation, peer: &PeerSeen, report: &NodeReport) -> Self {
        let differences = differences(setup, seen, peer, report);
        if !differences.is_empty() {
            return Self::Unequal(differences);
        }
        match (&seen.manifest, &report.manifest) {
            (None, _) => Self::Unknown("this node has not read its model's files yet".into()),
            (_, None) => Self::Unknown("it has not read its model's files yet".into()),
            _ => Self::Equal,
        }
    }
}

/// Where a node differs from this one, one a line.
pub fn differences(
    setup: &Setup,
    seen: &Observation,
    peer: &PeerSeen,
    report: &NodeReport,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |name: &str, here: Option<&str>, there: Option<&str>| {
        if here != there {
            found.push(line(name, here, there, &peer.node));
        }
    };
    compare("tandem", Some(&setup.version), Some(&report.version));
    compare("system", Some(&setup.os), Some(&report.os));
    // No more of it is told.
    let plan = setup.plan.get(..COMPONENTS_MAX).unwrap_or(&setup.plan);
    for own in plan {
        compare(&own.name, Some(&own.value), value(&report.plan, &own.name));
    }
    for theirs in &report.plan {
        if value(plan, &theirs.name).is_none() {
            compare(&theirs.name, None, Some(&theirs.value));
        }
    }
    if let (Some(here), Some(there)) = (seen.manifest_digest(), &report.manifest)
        && here != there
    {
        if peer.differences.is_empty() {
            found.push(line("the model's files", Some(here), Some(there), &peer.node));
        }
        found.extend(peer.differences.iter().map(|line| bounded(line)));
    }
    let more = found.len().saturating_sub(DIFFERENCES_MAX);
    found.truncate(DIFFERENCES_MAX);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
}

fn value<'a>(plan: &'a [Component], name: &str) -> Option<&'a str> {
    plan.iter().find(|component| component.name == name).map(|c| c.value.as_str())
}

fn line(name: &str, here: Option<&str>, there: Option<&str>, node: &str) -> String {
    let shown = |value: Option<&str>| match value {
        Some(value) => value.chars().take(VALUE_CHARS_MAX).collect(),
        None => "nothing".to_owned(),
    };
    bounded(&format!("{name}: {} here, {} on {node}", shown(here), shown(there)))
}
