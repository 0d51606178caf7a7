//! The gateway.

use tandem_policy::{Ended, GatewaySeen, Process, Reading, gateway::Mode};
use tandem_wire::exit;

use super::Node;
use crate::trouble::Trouble;

/// The gateway.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) plan: String,
    pub(crate) mode: Mode,
    is_child: bool,
    answers_at: u64,
    ends_at: Option<u64>,
    mute_until: u64,
    unready_until: u64,
}

impl Gateway {
    pub(crate) const fn none() -> Self {
        Self {
            process: Process::Never,
            plan: String::new(),
            mode: Mode::Serve,
            is_child: true,
            answers_at: 0,
            ends_at: None,
            mute_until: 0,
            unready_until: 0,
        }
    }

    const fn answers(&self, t: u64) -> bool {
        self.process.is_running() && t >= self.answers_at && t >= self.mute_until
    }

    /// Whether it would pass a request on to the ranks.
    pub(crate) const fn passes(&self, t: u64) -> bool {
        self.answers(t) && t >= self.unready_until && self.ends_at.is_none()
    }
}

impl Node {
    fn end_gateway(&mut self, how: Ended) {
        if let Process::Running { epoch, .. } = self.gateway.process {
            self.tell(|_| format!("gateway ends: {how}"));
            let how = if self.gateway.is_child { how } else { Ended::Unseen };
            self.gateway.process = Process::Ended { epoch, how };
        }
    }

    pub(crate) fn start_gateway(&mut self, mode: Mode) {
        let pid = self.pid();
        let plan = match (&self.setup.fallback, mode) {
            (Some(fallback), Mode::Alone) => fallback.gateway_plan.clone(),
            _ => self.setup.gateway_plan.clone(),
        };
        self.gateway = Gateway {
            process: Process::Running { pid, epoch: 0 },
            plan,
            mode,
            answers_at: self.t + self.dice.between(100, 2_000),
            ..Gateway::none()
        };
    }

    pub(crate) fn ask_gateway_to_end(&mut self) {
        if self.gateway.ends_at.is_none() {
            let most = self.setup.supervise.drain_timeout_ms * 2;
            let slow = self.strikes(Trouble::GatewaySlow);
            let ms =
                if slow { self.dice.between(3_000, most) } else { self.dice.between(50, 3_000) };
            self.gateway.ends_at = Some(self.t + ms);
        }
    }

    pub(crate) fn kill_gateway(&mut self) {
        self.end_gateway(Ended::Signal(9));
    }

    pub(crate) fn pass_gateway(&mut self) {
        if !self.gateway.process.is_running() {
            return;
        }
        let t = self.t;
        if self.strikes(Trouble::GatewayCrash) {
            self.end_gateway(Ended::Signal(11));
        } else if self.strikes(Trouble::GatewayModel) {
            self.record.excuse("the gateway ended in a way that no other start can mend");
            self.end_gateway(Ended::Code(exit::USAGE));
        } else if self.gateway.ends_at.is_some_and(|at| t >= at && t >= self.gateway.mute_until) {
            self.end_gateway(Ended::Code(exit::OK));
        }
        if self.strikes(Trouble::GatewayMute) {
            self.gateway.mute_until = t + self.dice.between(1_000, 60_000);
        }
        if self.strikes(Trouble::GatewayNotReady) {
            self.gateway.unready_until = t + self.dice.between(1_000, 60_000);
        }
    }

    /// Whether a request to this gateway would reach rank 0: that of another node passes it on.
    pub(crate) fn gateway_reaches(&self) -> bool {
        let is_alone = self.serves_alone();
        let leader = self.around.as_ref().and_then(|a| a.others.iter().find(|o| o.leads));
        let is_passed_on = match (self.gateway.mode, leader) {
            (Mode::Proxy, Some(leader)) => leader.is_reached && leader.gateway_passes,
            (Mode::Proxy, None) => false,
            (Mode::Serve, _) => !is_alone,
            (Mode::Alone, _) => is_alone,
        };
        self.gateway.passes(self.t) && is_passed_on
    }

    pub(crate) fn gateway_seen(&mut self) -> GatewaySeen {
        let t = self.t;
        let ready = if self.gateway.answers(t) {
            let value = self.gateway_reaches() && self.ranks_work();
            Reading::Known { value, age_ms: self.dice.below(1_500) }
        } else {
            Reading::Unknown
        };
        GatewaySeen { process: self.gateway.process.clone(), ready }
    }

    /// Another supervisor finds it.
    pub(crate) fn gateway_outlives(&mut self) {
        self.gateway.is_child = false;
        if let Process::Running { epoch, .. } = &mut self.gateway.process {
            *epoch = 1;
        } else {
            self.gateway.process = Process::Never;
        }
    }
}
