//! What the supervisor is shown, and what becomes of what it does.

use tandem_policy::{
    Action, Artifacts, Event, Moment, Need, Observation, RequestsSeen, SaveError, State, World,
};

use super::{FALLBACK_BYTES, Node, WEIGHTS_BYTES};
use crate::{pair, promises, trouble::Trouble};

/// Longest that one turn counts for a state that lasts: while it sleeps nobody can act.
const TURN_MS_MAX: u64 = 4_000;

impl Node {
    fn fallback_artifacts(&self) -> Artifacts {
        if self.setup.fallback.is_none() || self.t < self.machine.files_known_at {
            Artifacts::Unread
        } else {
            Artifacts::Complete { weights_bytes: 1, need: Need::Bytes(FALLBACK_BYTES) }
        }
    }

    pub(super) fn artifacts(&self) -> Artifacts {
        if self.t < self.disk.missing_until {
            Artifacts::Incomplete("model-2.safetensors is missing".into())
        } else if self.t < self.machine.files_known_at {
            Artifacts::Unread
        } else {
            Artifacts::Complete { weights_bytes: WEIGHTS_BYTES, need: Need::Estimated }
        }
    }
}

impl World for Node {
    fn now(&mut self) -> Moment {
        self.moment()
    }

    fn observe(&mut self) -> Observation {
        let moment = self.moment();
        let seen = Observation {
            ranks: self.ranks_seen(),
            gateway: self.gateway_seen(),
            terminations: self.machine.terminations,
            invariants: self.host_seen(),
            thunderbolt: self.around.as_ref().and_then(|around| around.fabric.shown.clone()),
            memory: self.memory_seen(),
            artifacts: self.artifacts(),
            fallback_artifacts: self.fallback_artifacts(),
            manifest: self.manifest(),
            peers: self.around.as_ref().map(|around| around.peers.clone()).unwrap_or_default(),
            evidence: self.desk.evidence.clone(),
            canary: self.canary.seen(moment),
            requests: RequestsSeen {
                answered: self.traffic.answered,
                abandoned: self.traffic.abandoned,
            },
            orders: self.orders_seen(),
            config_refused: self.config_refused(),
            ledger_trouble: if self.disk.last_failed {
                Some("can't write the ledger: no space left on device".into())
            } else if self.faulty && self.t < self.machine.supervisor_since + 30_000 {
                self.disk.lost.clone()
            } else {
                None
            },
        };
        self.record.are_tokens_wasted = self.traffic.is_cancelled(self.t);
        self.record.shown(&self.setup, &seen, moment);
        let is_possible = pair::promises::is_pair_possible(self, &seen, moment);
        let is_stale = self.around.as_ref().is_some_and(|around| around.is_stale);
        if self.around.is_none() || !is_possible {
            self.record.pair_possible_for_ms = 0;
        } else if !is_stale {
            // That an old report says so shows nothing.
            let since_ms = moment.boot_ms - self.record.pair_possible_ms;
            self.record.pair_possible_ms = moment.boot_ms;
            // What keeps the pair may be this node itself.
            if pair::promises::could_start_fallback(self, &seen, moment) {
                self.record.pair_possible_for_ms += since_ms.min(TURN_MS_MAX);
            } else {
                self.record.pair_possible_for_ms = 0;
            }
        }
        self.shown = Some((seen.clone(), moment));
        seen
    }

    fn save(&mut self, state: &State, events: &[Event]) -> Result<(), SaveError> {
        let died_before = self.supervisor_dies();
        let fails = died_before || self.t < self.disk.full_until;
        if let Some((seen, now)) = self.shown.as_ref().filter(|_| !fails) {
            self.record.obeyed(seen, state.last_order, *now);
        }
        if fails {
            self.disk.last_failed |= !died_before;
            self.tell(|_| "save failed".into());
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(SaveError::new(std::path::Path::new("ledger.db"), full));
        }
        self.disk.last_failed = false;
        self.note_decided(state);
        let sound = promises::a_saved_state_is_sound(self, state);
        let once = promises::no_order_is_obeyed_twice(self, events);
        self.check(sound.and(once));
        if self.log.is_some() {
            for event in events {
                let json = serde_json::to_string(&event.what).unwrap_or_default();
                self.tell(|_| format!("    event {json}"));
            }
        }
        self.record.saved(events);
        self.disk.saved = Some(state.clone());
        self.note_saved(state);
        self.supervisor_dies();
        Ok(())
    }

    fn tell(&mut self, report: &tandem_policy::pair::NodeReport) {
        if self.supervisor_dies() {
            return;
        }
        if let Some(around) = &mut self.around {
            around.told = Some(report.clone());
        }
    }

    fn perform(&mut self, action: &Action) {
        // Nothing else hangs on it, so nothing is rolled for it.
        if let Action::KeepManifest { digest } = action {
            return self.keep_manifest(digest);
        }
        if self.supervisor_dies() || self.machine.is_off() {
            self.tell(|_| format!("  (not done, dead: {action:?})"));
            return;
        }
        self.tell(|_| format!("  {action:?}"));
        self.met.mark(action_name(action));
        promises::of_action(self, action);
        let can_be_lost = !matches!(action, Action::StartGang { .. } | Action::Exit);
        let is_lost = can_be_lost && self.strikes(Trouble::ActionLost);
        // A child is started or can't be: either is known at once.
        if is_lost && !matches!(action, Action::StartGateway { .. }) {
            self.tell(|_| "    ... is lost".into());
            return;
        }
        match action {
            Action::Mend(repair) => self.mend(repair),
            Action::StartGang { epoch, alone: true, .. } => self.start_fallback(*epoch),
            Action::StartGang { epoch, carrier, .. } => self.start_gang(*epoch, carrier),
            Action::UnloadRank { rank } => {
                if let Some(index) = self.index_of(*rank) {
                    self.ask_to_unload(index);
                }
            }
            Action::KillRank { rank } => {
                if let Some(index) = self.index_of(*rank) {
                    self.kill_rank(index);
                }
            }
            Action::StartGateway { mode } => self.start_gateway(*mode),
            Action::StopGateway => self.ask_gateway_to_end(),
            Action::KillGateway => self.kill_gateway(),
            Action::Canary { epoch, number } => self.begin_canary(*epoch, *number),
            Action::Reboot { attempt } => self.begin_reboot(*attempt),
            Action::KeepManifest { .. } | Action::Exit => {}
        }
    }
}

const fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Mend(_) => "action mend",
        Action::StartGang { alone: true, .. } => "action start_fallback",
        Action::StartGang { .. } => "action start_gang",
        Action::UnloadRank { .. } => "action unload_rank",
        Action::KillRank { .. } => "action kill_rank",
        Action::StartGateway { .. } => "action start_gateway",
        Action::StopGateway => "action stop_gateway",
        Action::KillGateway => "action kill_gateway",
        Action::Canary { .. } => "action canary",
        Action::KeepManifest { .. } => "action keep_manifest",
        Action::Reboot { .. } => "action reboot",
        Action::Exit => "action exit",
    }
}
