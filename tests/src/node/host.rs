//! The host's invariants: what is true, what is read of it, and what a mend does.

use std::collections::BTreeMap;

use tandem_policy::{
    Repair, Setup,
    invariant::{Found, Invariant, Sighting, Unknown},
};

use super::Node;
use crate::{dice::Dice, trouble::Trouble};

/// The truth about one invariant, and what was last read of it.
#[derive(Clone, Debug)]
struct Fact {
    /// Whether this platform has such a thing.
    exists: bool,
    holds: bool,
    /// When a late mend takes effect.
    mended_at: Option<u64>,
    /// When somebody else puts right what no mend can.
    helped_at: Option<u64>,
    /// Something sets it back until then.
    flaps_until: u64,
    /// It can't be read until then, and in which way.
    unread_until: u64,
    why_unread: u8,
    /// Its probe hangs until the supervisor is started again.
    hung: bool,
    /// What was last read, and when.
    read: Option<(bool, u64)>,
}

/// All of the host.
pub(crate) struct Host {
    facts: BTreeMap<Invariant, Fact>,
}

/// Those that a mend can set right.
const MENDABLE: [Invariant; 13] = [
    Invariant::LinkMtu,
    Invariant::LinkAddress,
    Invariant::LinkUnbridged,
    Invariant::WiredLimit,
    Invariant::SpotlightOff,
    Invariant::SleepOff,
    Invariant::DiskSleepOff,
    Invariant::PowerNapOff,
    Invariant::LowPowerOff,
    Invariant::RestartAfterPowerLoss,
    Invariant::AutomaticUpdatesOff,
    Invariant::OpenFiles,
    Invariant::ClockSynchronised,
];

/// What a repair is for.
pub(crate) fn invariant_of(repair: &Repair) -> Option<Invariant> {
    Some(match repair {
        Repair::LinkMtu { .. } => Invariant::LinkMtu,
        Repair::LinkAddress { .. } => Invariant::LinkAddress,
        Repair::LinkUnbridged { .. } => Invariant::LinkUnbridged,
        Repair::WiredLimit { .. } => Invariant::WiredLimit,
        Repair::SpotlightOff { .. } => Invariant::SpotlightOff,
        Repair::AutomaticUpdatesOff => Invariant::AutomaticUpdatesOff,
        Repair::OpenFiles { .. } => Invariant::OpenFiles,
        Repair::ClockSynchronised => Invariant::ClockSynchronised,
        Repair::Power { key, .. } => match key.as_str() {
            "sleep" => Invariant::SleepOff,
            "disksleep" => Invariant::DiskSleepOff,
            "powernap" => Invariant::PowerNapOff,
            "lowpowermode" => Invariant::LowPowerOff,
            "autorestart" => Invariant::RestartAfterPowerLoss,
            _ => return None,
        },
    })
}

/// What a reader finds when it holds, and when it does not.
fn found(setup: &Setup, invariant: Invariant, holds: bool) -> Found {
    match invariant {
        Invariant::LinkMtu if holds => Found::Count(setup.host.link_mtu_bytes.into()),
        Invariant::LinkMtu => Found::Count(1_500),
        Invariant::LinkAddress if holds => Found::Names(vec!["169.254.1.2".into()]),
        Invariant::LinkAddress => Found::Names(Vec::new()),
        Invariant::WiredLimit if holds => Found::Count(setup.host.wired_limit_mib),
        Invariant::WiredLimit => Found::Count(setup.host.wired_limit_mib / 2 + 1),
        Invariant::SpotlightOff if holds => Found::Names(Vec::new()),
        Invariant::SpotlightOff => Found::Names(vec!["/".into()]),
        Invariant::DiskSpace if holds => Found::Count(setup.host.disk_free_min_mib << 21),
        Invariant::DiskSpace => Found::Count(setup.host.disk_free_min_mib << 19),
        Invariant::OpenFiles if holds => Found::Count(setup.host.open_files_min * 2),
        Invariant::OpenFiles => Found::Count(setup.host.open_files_min / 2),
        Invariant::OsVersion if holds => Found::Text("26.10".into()),
        Invariant::OsVersion => Found::Text("26.1".into()),
        _ => Found::Flag(holds),
    }
}

impl Host {
    pub(crate) fn roll(dice: &mut Dice, setup: &Setup) -> Self {
        let is_mac = dice.once_in(2);
        let fact = |invariant: Invariant, dice: &mut Dice| {
            let everywhere = matches!(
                invariant,
                Invariant::LinkMtu
                    | Invariant::LinkAddress
                    | Invariant::LinkUnbridged
                    | Invariant::DiskSpace
                    | Invariant::OpenFiles
                    | Invariant::ClockSynchronised
            );
            let needs_link = matches!(
                invariant,
                Invariant::LinkMtu | Invariant::LinkAddress | Invariant::LinkUnbridged
            );
            Fact {
                exists: (everywhere || is_mac) && !(needs_link && setup.host.link.is_empty()),
                holds: !(MENDABLE.contains(&invariant) && dice.once_in(6)),
                mended_at: None,
                helped_at: None,
                flaps_until: 0,
                unread_until: 0,
                why_unread: 0,
                hung: false,
                read: None,
            }
        };
        Self { facts: Invariant::ALL.iter().map(|i| (*i, fact(*i, dice))).collect() }
    }

    fn existing(&self) -> Vec<Invariant> {
        self.facts.iter().filter(|(_, fact)| fact.exists).map(|(i, _)| *i).collect()
    }
}

impl Node {
    pub(crate) fn pass_host(&mut self) {
        let t = self.t;
        if self.strikes(Trouble::Drift) {
            let invariant = self.dice.pick(&self.host.existing());
            let helped_at = t + self.dice.between(1_000, 60_000);
            self.break_invariant(invariant, helped_at);
        }
        if self.strikes(Trouble::BootAttended) {
            let helped_at = t + self.dice.between(10_000, 200_000);
            self.break_invariant(Invariant::UnattendedBoot, helped_at);
        }
        if self.strikes(Trouble::Flap) {
            let mendable: Vec<_> =
                MENDABLE.into_iter().filter(|i| self.host.facts[i].exists).collect();
            let invariant = self.dice.pick(&mendable);
            let until = t + self.dice.between(5_000, 90_000);
            self.with_fact(invariant, |fact| fact.flaps_until = until);
        }
        if self.strikes(Trouble::ReadingLost) {
            let invariant = self.dice.pick(&self.host.existing());
            let until = t + self.dice.between(1_000, 60_000);
            let why = u8::try_from(self.dice.below(3)).unwrap_or(0);
            self.with_fact(invariant, |fact| {
                fact.unread_until = until;
                fact.why_unread = why;
            });
        }
        if self.strikes(Trouble::ProbeHung) {
            let invariant = self.dice.pick(&self.host.existing());
            let slow = invariant.row().is_slow;
            self.with_fact(invariant, |fact| fact.hung |= slow);
        }
        self.change_facts();
    }

    fn break_invariant(&mut self, invariant: Invariant, helped_at: u64) {
        self.tell(|_| format!("{invariant:?} breaks"));
        self.with_fact(invariant, |fact| {
            fact.holds = false;
            fact.helped_at = (!MENDABLE.contains(&invariant)).then_some(helped_at);
        });
    }

    fn with_fact(&mut self, invariant: Invariant, change: impl FnOnce(&mut Fact)) {
        if let Some(fact) = self.host.facts.get_mut(&invariant) {
            change(fact);
        }
    }

    /// What changes by itself, and what is read of it.
    pub(crate) fn change_facts(&mut self) {
        let t = self.t;
        let (poll_ms, slow_poll_ms) = (self.setup.host.poll_ms, self.setup.host.slow_poll_ms);
        let notices = !self.dice.once_in(4);
        let flips = self.dice.once_in(3);
        for (invariant, fact) in &mut self.host.facts {
            if fact.mended_at.is_some_and(|at| t >= at) || fact.helped_at.is_some_and(|at| t >= at)
            {
                fact.holds = true;
                fact.mended_at = None;
                fact.helped_at = None;
            }
            if t < fact.flaps_until && flips {
                fact.holds = false;
            }
            if t < fact.unread_until || fact.hung || !fact.exists {
                continue;
            }
            let slow = invariant.row().is_slow;
            let period_ms = if slow { slow_poll_ms } else { poll_ms };
            let changed = fact.read.is_some_and(|(holds, _)| holds != fact.holds);
            let due = fact.read.is_none_or(|(_, at)| t - at >= period_ms);
            if due || (changed && notices && !slow) {
                fact.read = Some((fact.holds, t));
            }
        }
    }

    pub(crate) fn host_seen(&self) -> BTreeMap<Invariant, Sighting> {
        let t = self.t;
        let booted_at = self.machine.booted_at;
        let mut seen = BTreeMap::new();
        for (invariant, fact) in &self.host.facts {
            let link = matches!(
                invariant,
                Invariant::LinkMtu | Invariant::LinkAddress | Invariant::LinkUnbridged
            );
            let sighting = if !fact.exists && link && self.setup.host.link.is_empty() {
                Sighting::Unknown(Unknown::NotConfigured("host.link".into()))
            } else if !fact.exists {
                Sighting::Unknown(Unknown::NotOnThisPlatform)
            } else if fact.hung {
                Sighting::Unknown(Unknown::Hung("its tool".into()))
            } else if t < fact.unread_until && fact.why_unread == 1 {
                Sighting::Unknown(Unknown::Failed("permission denied".into()))
            } else if t < fact.unread_until && fact.why_unread == 2 {
                Sighting::Unknown(Unknown::Unread)
            } else if let Some((holds, at)) = fact.read {
                // While it can't be read (in the third way) this grows old.
                let found = found(&self.setup, *invariant, holds);
                let at_ms = at - booted_at;
                Sighting::Known { found, source: "simulated".into(), at_ms }
            } else {
                continue;
            };
            seen.insert(*invariant, sighting);
        }
        seen
    }

    pub(crate) fn mend(&mut self, repair: &Repair) {
        let Some(invariant) = invariant_of(repair) else { return };
        let flaps = self.host.facts.get(&invariant).is_some_and(|f| self.t < f.flaps_until);
        if self.strikes(Trouble::MendVoid) {
            return;
        }
        let late = self.strikes(Trouble::MendLate);
        let at = self.t + if late { self.dice.between(500, 20_000) } else { 0 };
        let t = self.t;
        self.with_fact(invariant, |fact| {
            if late {
                fact.mended_at.get_or_insert(at);
                return;
            }
            fact.holds = true;
            // What was just set is read at once, before anything can set it back.
            if fact.exists && !fact.hung && (t >= fact.unread_until || flaps) {
                fact.read = Some((true, t));
            }
        });
    }

    /// A new supervisor reads all anew, and its probes do not hang any more.
    pub(crate) fn host_is_read_anew(&mut self) {
        for fact in self.host.facts.values_mut() {
            fact.read = None;
            fact.hung = false;
        }
    }

    /// After a boot some settings are the system's own again.
    pub(crate) fn boot_host(&mut self) {
        for invariant in Invariant::ALL {
            let broken = MENDABLE.contains(&invariant) && self.dice.once_in(8);
            self.with_fact(invariant, |fact| {
                fact.holds &= !broken;
                fact.mended_at = None;
            });
        }
    }

    /// What a mend can't set right, somebody does; the rest is left to be mended.
    pub(crate) fn heal_host(&mut self) {
        let t = self.t;
        for (invariant, fact) in &mut self.host.facts {
            fact.flaps_until = 0;
            fact.unread_until = fact.unread_until.min(t);
            let observed =
                self.setup.invariants.mode(*invariant) == tandem_policy::invariant::Mode::Observe;
            if !MENDABLE.contains(invariant) || observed {
                fact.holds = true;
            }
        }
    }

    /// Whether one holds, or this platform has no such thing.
    pub(crate) fn holds_now(&self, invariant: Invariant) -> bool {
        let t = self.t;
        let is_read = |fact: &Fact| fact.holds && !fact.hung && t >= fact.unread_until;
        self.host.facts.get(&invariant).is_none_or(|fact| !fact.exists || is_read(fact))
    }

    /// Whether a probe hangs: then the supervisor must be started again to read it.
    pub(crate) fn a_probe_hangs(&self) -> bool {
        self.host.facts.values().any(|fact| fact.hung)
    }
}
