//! The desk: operators' orders, changes of the config, and the signatures that crashes leave.

use std::rc::Rc;

use tandem_policy::{EVIDENCE_MAX, Evidence, EvidenceSource, Order, OrderKind, Rung};

use super::Node;
use crate::trouble::Trouble;

/// What people and files say.
#[derive(Default)]
pub(crate) struct Desk {
    /// Given to the supervisor that runs, oldest first.
    orders: Vec<Order>,
    /// The last that is known to be obeyed.
    obeyed: Option<Order>,
    next_number: u64,
    /// Whether users ask for tokens.
    pub(crate) busy: bool,
    pub(crate) evidence: Vec<Evidence>,
    reports: u32,
    plans: u32,
    refused_until: u64,
}

impl Node {
    pub(crate) fn pass_desk(&mut self) {
        let t = self.t;
        if self.strikes(Trouble::Order) {
            let wall_ms = self.moment().wall_ms;
            let soon = wall_ms + self.dice.between(1_000, 120_000);
            let what = match self.dice.below(8) {
                0 => OrderKind::Drain,
                1 | 2 => OrderKind::Resume,
                3 => OrderKind::Hold { until_wall_ms: None },
                4 => OrderKind::Hold { until_wall_ms: Some(soon) },
                _ => OrderKind::Release,
            };
            self.give_order(what);
        }
        if self.strikes(Trouble::Replan) {
            self.desk.plans += 1;
            let plans = self.desk.plans;
            let setup = Rc::make_mut(&mut self.setup);
            if self.dice.once_in(2) {
                setup.rank_plan = format!("ranks {plans}");
            } else {
                setup.gateway_plan = format!("gateway {plans}");
            }
            self.record.replanned(self.t);
            self.tell(|node| format!("{}, {}", node.setup.rank_plan, node.setup.gateway_plan));
        }
        if self.strikes(Trouble::ConfigRefused) {
            self.desk.refused_until = t + self.dice.between(1_000, 60_000);
        }
    }

    /// An operator gives an order.
    pub fn give_order(&mut self, what: OrderKind) {
        self.desk.next_number += 1;
        let number = self.desk.next_number;
        self.tell(|_| format!("order {number}: {what:?}"));
        self.met.mark(match what {
            OrderKind::Drain => "order drain",
            OrderKind::Resume => "order resume",
            OrderKind::Hold { .. } => "order hold",
            OrderKind::Release => "order release",
            OrderKind::Reboot { .. } => "order reboot",
        });
        self.record.orders_given += 1;
        self.desk.orders.push(Order { number, what });
    }

    /// Those that are not known to be obeyed; at times one that is.
    pub(crate) fn orders_seen(&mut self) -> Vec<Order> {
        let saved = self.disk.saved.as_ref().map_or(0, |state| state.last_order);
        if let Some(obeyed) = self.desk.orders.iter().rfind(|order| order.number <= saved) {
            self.desk.obeyed = Some(obeyed.clone());
        }
        self.desk.orders.retain(|order| order.number > saved);
        let again = self.desk.obeyed.clone().filter(|_| self.strikes(Trouble::OrderAgain));
        again.into_iter().chain(self.desk.orders.iter().cloned()).collect()
    }

    pub(crate) fn config_refused(&self) -> Option<String> {
        (self.t < self.desk.refused_until).then(|| "engine.ranks is 0".into())
    }

    pub(crate) fn leave_evidence(&mut self, source: EvidenceSource) {
        let rung = match self.dice.below(12) {
            0..=2 => Rung::Retune,
            3..=6 => Rung::Restart,
            7 => Rung::Reboot,
            8 => Rung::Hold,
            _ => Rung::None,
        };
        if rung == Rung::Hold {
            self.record.excuse("a signature that asks for an operator");
        }
        if rung == Rung::Reboot {
            self.record.excuse("a signature that only a reboot mends");
        }
        if rung == Rung::Retune {
            self.record.excuse("a signature that only a smaller step mends");
        }
        let id = format!("simulated-{rung:?}").to_lowercase();
        let remedy = "look at it".into();
        self.tell(|_| format!("signature {id} of {source:?}"));
        let text = "a line".into();
        self.keep_evidence(Evidence { id, rung, is_of_fabric: false, text, remedy, source });
    }

    /// A start by the RDMA fabric failed, which this would mend.
    pub(crate) fn leave_fabric_evidence(&mut self, source: EvidenceSource, rung: Rung) {
        if rung == Rung::Hold {
            self.record.excuse("a signature that asks for an operator");
        }
        if rung == Rung::Reboot {
            self.record.excuse("a signature that only a reboot mends");
        }
        self.tell(|_| format!("the fabric fails: {rung:?} of {source:?}"));
        self.met.mark("the fabric failed");
        let (text, remedy) = ("[jaccl] no queue pair".into(), "look at it".into());
        let id = "simulated-fabric".into();
        self.keep_evidence(Evidence { id, rung, is_of_fabric: true, text, remedy, source });
    }

    fn keep_evidence(&mut self, evidence: Evidence) {
        self.desk.evidence.push(evidence);
        let surplus = self.desk.evidence.len().saturating_sub(EVIDENCE_MAX);
        self.desk.evidence.drain(..surplus);
    }

    /// The kernel panicked and left a report.
    pub(crate) fn leave_panic(&mut self, boot: String) {
        self.desk.reports += 1;
        let report = format!("panic-{}", self.desk.reports);
        let boot = Some(boot).filter(|_| !self.dice.once_in(4));
        let evidence = Evidence {
            id: "panic".into(),
            rung: Rung::None,
            is_of_fabric: false,
            text: "panic(cpu 0)".into(),
            remedy: "send it to Apple".into(),
            source: EvidenceSource::Panic { report, boot },
        };
        self.desk.evidence.push(evidence);
    }

    /// A new supervisor knows no order of the last one, and reads only files again. Operators who are
    /// there to help see that theirs got no answer, and give it again.
    pub(crate) fn desk_is_cleared(&mut self, last_order: u64) {
        let lost = std::mem::take(&mut self.desk.orders);
        self.desk.obeyed = None;
        self.desk.next_number = last_order;
        if !self.faulty {
            let is_lost = |order: &Order| order.number > last_order;
            lost.into_iter().filter(is_lost).for_each(|order| self.give_order(order.what));
        }
        let is_file = |evidence: &Evidence| {
            matches!(evidence.source, EvidenceSource::Report { .. } | EvidenceSource::Panic { .. })
        };
        self.desk.evidence.retain(is_file);
    }

    pub(crate) const fn heal_desk(&mut self) {
        self.desk.refused_until = 0;
    }
}
