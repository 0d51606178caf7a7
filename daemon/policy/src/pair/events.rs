//! What happened to the other nodes and to the ways to them.

use super::watch::Known;
use crate::{State, What, event::PeerChange};

/// What a turn changed.
pub(crate) fn between(before: &State, after: &State, told: &mut Vec<What>) {
    if before.mode.name() != after.mode.name() {
        let why = match &after.mode {
            super::Mode::Pair => None,
            super::Mode::Alone { why } | super::Mode::Returning { why, .. } => Some(why.clone()),
        };
        told.push(What::Mode { mode: after.mode.name().into(), why });
    }
    let nothing = Known::default();
    for (node, known) in &after.scratch.peers {
        let old = before.scratch.peers.get(node).unwrap_or(&nothing);
        let mut tell = |change: PeerChange, detail: String| {
            told.push(What::Peer { node: node.clone(), change, detail });
        };
        for (address, is_up) in &known.paths {
            let was_up = old.paths.get(address).copied();
            if was_up.is_some_and(|was_up| was_up != *is_up) {
                let change = if *is_up { PeerChange::PathUp } else { PeerChange::PathDown };
                tell(change, address.clone());
            }
        }
        if old.is_heard && !known.is_heard {
            tell(PeerChange::Lost, format!("boot {}", known.boot));
        } else if known.is_heard && !old.is_heard {
            tell(PeerChange::Back, format!("boot {}", known.boot));
        }
        if !old.boot.is_empty() && old.boot != known.boot {
            tell(PeerChange::Rebooted, format!("from boot {} to boot {}", old.boot, known.boot));
        }
    }
}
