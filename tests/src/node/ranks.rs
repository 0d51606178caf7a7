//! The ranks: what they do when asked, and what goes wrong with them.

mod gang;

use tandem_policy::{Ended, EvidenceSource, Process, RankSeen, Rung, pair::fabric::Carrier};
use tandem_wire::{Phase, Vitals, exit};

use super::{FALLBACK_BYTES, Node, WEIGHTS_BYTES};
use crate::{
    pair::{around::OtherRank, promises::LATE_MS},
    trouble::Trouble,
};

/// Exit codes that another start may not meet.
const RETRYABLE: [i32; 6] =
    [exit::ENGINE, exit::ENGINE, exit::OS, exit::SOFTWARE, exit::INTEGRITY, exit::GROUP];

/// One rank.
pub(crate) struct Rank {
    pub(crate) process: Process,
    /// The plan it was started with.
    pub(crate) plan: String,
    /// Whether the supervisor that looks now started it: of others nobody is told how they ended.
    is_child: bool,
    loads_at: u64,
    warms_at: u64,
    ready_at: u64,
    /// When it was first asked to unload, if it was.
    pub(crate) asked_at: Option<u64>,
    /// When it will have unloaded; never for one that will not.
    unloads_at: Option<u64>,
    /// When SIGKILL takes effect.
    dies_at: Option<u64>,
    muted_until: u64,
    hangs: bool,
    stalls: bool,
    pub(crate) garbles: bool,
    steps: u64,
    pub(crate) tokens: u64,
    stepped_at: Option<u64>,
    /// Requests that it works on.
    active: u32,
    /// Since when one of its peers is lost or mute.
    alone_since: Option<u64>,
    /// The ranks of other nodes that it waits for, until the group is formed.
    forming: Option<Forming>,
    /// Whether it serves the fallback model, without any other.
    pub(crate) is_alone: bool,
    /// Whether its group is by the RDMA fabric.
    pub(crate) is_by_fabric: bool,
    /// When it fails to form that, and what the evidence of it asks for.
    fails_at: Option<(u64, Rung)>,
}

/// A rank that waits for those of other nodes.
#[derive(Clone, Copy)]
struct Forming {
    /// When it ends by itself; never for one that waits until it is asked.
    gives_up_at: Option<u64>,
    /// What it takes from then on to load, and to be ready.
    load_ms: u64,
    warm_ms: u64,
    ready_ms: u64,
}

impl Rank {
    pub(crate) const fn none() -> Self {
        Self {
            process: Process::Never,
            plan: String::new(),
            is_child: true,
            loads_at: 0,
            warms_at: 0,
            ready_at: 0,
            asked_at: None,
            unloads_at: None,
            dies_at: None,
            muted_until: 0,
            hangs: false,
            stalls: false,
            garbles: false,
            steps: 0,
            tokens: 0,
            stepped_at: None,
            active: 0,
            alone_since: None,
            forming: None,
            is_alone: false,
            is_by_fabric: false,
            fails_at: None,
        }
    }

    pub(crate) const fn epoch(&self) -> Option<u64> {
        match self.process {
            Process::Running { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    pub(crate) const fn is_mute(&self, t: u64) -> bool {
        self.hangs || t < self.muted_until
    }

    pub(crate) const fn phase(&self, t: u64) -> Phase {
        if self.asked_at.is_some() {
            Phase::Unloading
        } else if t < self.loads_at {
            Phase::Forming
        } else if t < self.warms_at {
            Phase::Loading
        } else if t < self.ready_at {
            Phase::Warming
        } else {
            Phase::Ready
        }
    }

    /// Whether it could generate tokens.
    pub(crate) fn works(&self, t: u64) -> bool {
        self.process.is_running()
            && self.phase(t) == Phase::Ready
            && !self.is_mute(t)
            && !self.stalls
    }

    /// Whether it has weights in wired memory.
    pub(crate) const fn has_loaded(&self, t: u64) -> bool {
        self.process.is_running() && t >= self.loads_at
    }
}

impl Rank {
    /// As the ranks of other nodes feel it.
    pub(crate) fn outwards(&self, t: u64) -> OtherRank {
        OtherRank {
            epoch: self.epoch(),
            is_mute: self.is_mute(t),
            works: self.works(t),
            is_leaving: self.asked_at.is_some(),
            stalls: self.stalls,
            garbles: self.garbles,
            is_loaded: self.has_loaded(t.saturating_sub(LATE_MS)),
            is_alone: self.is_alone,
            fails: self.fails_at.is_some(),
        }
    }
}

impl Node {
    /// What one rank wires.
    pub(crate) fn share_bytes(&self, rank: &Rank) -> u64 {
        if rank.is_alone { FALLBACK_BYTES } else { WEIGHTS_BYTES / u64::from(self.setup.ranks) }
    }

    /// Whether a request would bring tokens, if the gateway passes it on.
    pub(crate) fn ranks_work(&self) -> bool {
        let t = self.t;
        let is_needed = |rank: &&Rank| rank.is_alone || !self.serves_alone();
        self.ranks.iter().filter(is_needed).all(|rank| rank.works(t)) && self.others_work()
    }

    pub(crate) fn end_rank(&mut self, index: usize, how: Ended) {
        let t = self.t;
        let Process::Running { epoch, .. } = self.ranks[index].process else { return };
        let loaded = self.ranks[index].has_loaded(t);
        let share = self.share_bytes(&self.ranks[index]);
        let hard = matches!(how, Ended::Signal(_));
        if loaded {
            if hard && self.strikes(Trouble::Strand) {
                self.met.mark("memory stranded");
                self.memory.strand(share);
            } else {
                let until = t + self.dice.between(200, 4_000);
                self.memory.release(share, until);
            }
        }
        self.tell(|_| format!("rank {index} of epoch {epoch} ends: {how}"));
        self.leave_signature(index, epoch, &how);
        let rank = &mut self.ranks[index];
        let how = if rank.is_child { how } else { Ended::Unseen };
        rank.process = Process::Ended { epoch, how };
        rank.dies_at = None;
    }

    fn leave_signature(&mut self, rank: usize, epoch: u64, how: &Ended) {
        let is_plain = matches!(how, Ended::Code(exit::OK | exit::PEER_LOST | exit::PEER_SILENT));
        if is_plain || !self.ranks[rank].is_child || !self.strikes(Trouble::Signature) {
            return;
        }
        let is_fallback = self.ranks[rank].is_alone;
        let rank = if is_fallback { 0 } else { self.setup.own_ranks[rank] };
        self.leave_evidence(EvidenceSource::Rank { rank, epoch });
    }

    /// Starts every rank; the supervisor may be killed while it does.
    pub(crate) fn start_gang(&mut self, epoch: u64, carrier: &Carrier) {
        let failure = self.fabric_failure(carrier);
        let fails_at = failure.map(|rung| (self.t + 4_000, rung));
        let slow = self.strikes(Trouble::SlowStart);
        let garbles = self.strikes(Trouble::Garbage);
        self.load_files(epoch, garbles);
        self.record.started(epoch, carrier.is_fabric());
        self.note_start(epoch);
        for index in 0..self.ranks.len() {
            if index > 0 && self.supervisor_dies() {
                return;
            }
            let pid = self.pid();
            let loads_at = self.t + self.dice.between(100, 3_000);
            let most = if slow { 90_000 } else { 8_000 };
            let warms_at = loads_at + self.dice.between(500, most);
            let ready_at = warms_at + self.dice.between(200, 3_000);
            let process = if self.strikes(Trouble::NotStarted) {
                Process::Ended { epoch, how: Ended::NotStarted("no memory".into()) }
            } else {
                Process::Running { pid, epoch }
            };
            let plan = self.setup.rank_plan.clone();
            let rank = Rank { process, plan, loads_at, warms_at, ready_at, ..Rank::none() };
            let is_by_fabric = carrier.is_fabric();
            self.ranks[index] = Rank { garbles, is_by_fabric, fails_at, ..rank };
            self.wait_for_others(index);
        }
    }

    /// Starts the fallback's one rank in the place of this node's first.
    pub(crate) fn start_fallback(&mut self, epoch: u64) {
        let garbles = self.strikes(Trouble::Garbage);
        self.record.started(epoch, false);
        let pid = self.pid();
        let loads_at = self.t + self.dice.between(100, 1_000);
        let warms_at = loads_at + self.dice.between(500, 4_000);
        let ready_at = warms_at + self.dice.between(200, 1_000);
        let plan = self.setup.fallback.as_ref().map(|f| f.rank_plan.clone()).unwrap_or_default();
        let process = Process::Running { pid, epoch };
        for rank in &mut self.ranks {
            *rank = Rank::none();
        }
        let rank = Rank { process, plan, loads_at, warms_at, ready_at, ..Rank::none() };
        self.ranks[0] = Rank { garbles, is_alone: true, ..rank };
    }

    /// Whether this node serves the fallback.
    pub(crate) fn serves_alone(&self) -> bool {
        self.ranks.iter().any(|rank| rank.is_alone && rank.process.is_running())
    }

    pub(crate) fn ask_to_unload(&mut self, index: usize) {
        if !self.ranks[index].process.is_running() || self.ranks[index].asked_at.is_some() {
            return;
        }
        let ms = if self.strikes(Trouble::NeverUnloads) {
            None
        } else if self.strikes(Trouble::SlowUnload) {
            Some(self.dice.between(3_000, self.setup.supervise.unload_timeout_ms))
        } else {
            Some(self.dice.between(50, 3_000))
        };
        let t = self.t;
        let rank = &mut self.ranks[index];
        rank.asked_at = Some(t);
        rank.unloads_at = ms.map(|ms| t + ms);
    }

    pub(crate) fn kill_rank(&mut self, index: usize) {
        if self.strikes(Trouble::SlowKill) {
            let at = self.t + self.dice.between(500, 20_000);
            let rank = &mut self.ranks[index];
            rank.dies_at.get_or_insert(at);
        } else {
            self.end_rank(index, Ended::Signal(9));
        }
    }

    pub(crate) fn pass_ranks(&mut self) {
        for index in 0..self.ranks.len() {
            if self.ranks[index].process.is_running() {
                self.pass_rank(index);
            }
        }
        if self.around.is_some() {
            self.notice_gang();
        } else {
            self.notice_peers();
        }
        self.step_ranks();
    }

    fn pass_rank(&mut self, index: usize) {
        if self.strikes(Trouble::RankCrash) {
            let signal = self.dice.pick(&[6, 9, 11]);
            return self.end_rank(index, Ended::Signal(signal));
        }
        if self.strikes(Trouble::RankExit) {
            let code = self.dice.pick(&RETRYABLE);
            return self.end_rank(index, Ended::Code(code));
        }
        if self.strikes(Trouble::RankModel) {
            self.record.excuse("a rank ended in a way that no other start can mend");
            return self.end_rank(index, Ended::Code(exit::MODEL));
        }
        self.ranks[index].hangs |= self.strikes(Trouble::RankHang);
        self.ranks[index].stalls |= self.strikes(Trouble::RankStall);
        if self.strikes(Trouble::RankMute) {
            self.ranks[index].muted_until = self.t + self.dice.between(1_000, 40_000);
        }
        let t = self.t;
        let rank = &self.ranks[index];
        if let Some((_, rung)) = rank.fails_at.filter(|(at, _)| t >= *at && !rank.is_mute(t)) {
            return self.fail_fabric(index, rung);
        }
        if rank.dies_at.is_some_and(|at| t >= at) {
            self.end_rank(index, Ended::Signal(9));
        } else if rank.unloads_at.is_some_and(|at| t >= at) && !rank.is_mute(t) {
            self.end_rank(index, Ended::Code(exit::OK));
        }
    }

    /// A rank could not form the fabric, and says so.
    fn fail_fabric(&mut self, index: usize, rung: Rung) {
        let Some(epoch) = self.ranks[index].epoch() else { return };
        let rank = self.setup.own_ranks[index];
        if self.ranks[index].is_child {
            self.leave_fabric_evidence(EvidenceSource::Rank { rank, epoch }, rung);
        }
        let t = self.t;
        self.note_of_all(|truth, _| truth.fabric_failed_at = Some(t));
        self.end_rank(index, Ended::Code(exit::GROUP));
    }

    /// Steps and tokens, while there are requests.
    fn step_ranks(&mut self) {
        let t = self.t;
        let work = self.ranks_work();
        // Of several nodes only rank 0 knows requests and counts tokens.
        let counts =
            self.around.is_none() || self.setup.own_ranks.contains(&0) || self.serves_alone();
        let others_stall = self.fellows().any(|rank| rank.stalls);
        let has_slept = self.machine.woke_at == Some(t);
        let is_asked = self.gateway_reaches() && counts;
        let is_busy = self.desk.busy || self.traffic.works(t);
        let active = if is_busy && is_asked { 3 } else { 0 };
        // A rank that finishes no step does not let go of a canary either.
        let held = if is_asked && self.canary_waits() { active.max(1) } else { active };
        let grows = self.dice.between(1, 20);
        let epoch = self.ranks.first().and_then(Rank::epoch);
        let is_at_work = work && active > 0 && !has_slept;
        let (steps, tokens) = if is_at_work { self.traffic.steps(t, grows, epoch) } else { (0, 0) };
        if tokens > 0 {
            self.end_requests();
        }
        let is_wasted = self.traffic.is_cancelled(t);
        let mut is_proven = false;
        for rank in &mut self.ranks {
            if rank.phase(t) != Phase::Ready || !rank.process.is_running() {
                continue;
            }
            rank.active = if rank.stalls || (counts && others_stall) {
                rank.active.max(held)
            } else {
                active
            };
            if steps > 0 {
                is_proven |= tokens > 0 && !is_wasted;
                rank.steps += steps;
                rank.tokens += if counts { tokens } else { 0 };
                rank.stepped_at = Some(t);
            }
        }
        if let Some(epoch) = epoch.filter(|_| is_proven) {
            self.note_tokens(epoch);
        }
    }

    pub(crate) fn ranks_seen(&mut self) -> Vec<RankSeen> {
        let t = self.t;
        let late = self.dice.once_in(12);
        let seen = |(index, rank): (usize, &Rank)| {
            let speaks = rank.process.is_running() && !rank.is_mute(t);
            let phase = speaks.then(|| rank.phase(t));
            let epoch = rank.epoch().unwrap_or(0);
            let vitals = phase.filter(|_| !late).map(|phase| Vitals {
                epoch,
                rank: if rank.is_alone { 0 } else { self.setup.own_ranks[index] },
                phase,
                steps: rank.steps,
                last_step_age_ms: rank.stepped_at.map(|at| t - at),
                active: rank.active,
                queued: 0,
                tokens: rank.tokens,
                bytes_read: 0,
                weights_bytes: 0,
                memory_bytes: 0,
                memory_peak_bytes: 0,
                transport: None,
            });
            RankSeen { process: rank.process.clone(), phase, vitals }
        };
        (0..).zip(&self.ranks).map(seen).collect()
    }

    /// Another supervisor finds them: what runs is not its child, what ended is forgotten.
    pub(crate) fn ranks_outlive(&mut self) {
        for rank in &mut self.ranks {
            rank.is_child = false;
            if !rank.process.is_running() {
                rank.process = Process::Never;
            }
        }
    }

    /// Ranks of an epoch that this supervisor never started.
    pub(crate) fn foreign_ranks(&mut self, epoch: u64) {
        self.record.unloads.clear();
        for index in 0..self.ranks.len() {
            if self.dice.once_in(4) {
                continue;
            }
            let pid = self.pid();
            let ready_at = self.t + self.dice.between(0, 3_000);
            self.ranks[index] = Rank {
                process: Process::Running { pid, epoch },
                plan: self.setup.rank_plan.clone(),
                is_child: false,
                ready_at,
                ..Rank::none()
            };
            self.wait_for_others(index);
        }
    }
}
