//! The cables between the nodes' Thunderbolt ports: what is true, what each node's reader has found,
//! and what goes wrong with them.
//!
//! It has dice of its own, so that a life without it goes on as it ever did.

use tandem_policy::{
    PORTS_MAX, Rung, Setup, ThunderboltPort,
    pair::fabric::{Carrier, Devices},
};

use super::Pair;
use crate::{
    dice::Dice,
    node::Node,
    trouble::{FabricTrouble, Kind, Troubles},
};

/// More starts than any life has.
const FAILS_MAX: usize = 10_000;

/// Marks the dice of the cables.
const SALT: u64 = 0x6361_626c_6573;

/// One port as it truly is.
#[derive(Clone)]
struct Port {
    interface: String,
    domain: String,
    /// The domain at the other end while all is well.
    other: String,
    has_no_device_until: u64,
    /// What it sees instead, and until when.
    moved: Option<(Option<String>, u64)>,
}

impl Port {
    fn told(&self, t: u64) -> ThunderboltPort {
        let moved = self.moved.as_ref().filter(|(_, until)| t < *until);
        ThunderboltPort {
            interface: self.interface.clone(),
            rdma_device: (t >= self.has_no_device_until)
                .then(|| format!("rdma_{}", self.interface)),
            domain_uuid: self.domain.clone(),
            peer_domain_uuid: match moved {
                Some((sees, _)) => sees.clone(),
                None => Some(self.other.clone()),
            },
        }
    }
}

/// What one node's supervisor knows of its ports.
#[derive(Default)]
struct Reader {
    instance: u64,
    read: Option<Vec<ThunderboltPort>>,
    /// When the ports are read next, if that is due.
    next_at: Option<u64>,
    unread_until: u64,
}

/// All cables.
pub(super) struct Cables {
    dice: Dice,
    troubles: Troubles<FabricTrouble>,
    /// By node.
    ports: Vec<Vec<Port>>,
    readers: Vec<Reader>,
}

/// What a node feels of the fabric.
#[derive(Clone, Default)]
pub(crate) struct Felt {
    /// What its reader has found.
    pub(crate) shown: Option<Vec<ThunderboltPort>>,
    /// Its ports as they are.
    truth: Vec<ThunderboltPort>,
    /// By whose domains each other node's ports go, in the config's order.
    domains: Vec<Vec<String>>,
    /// So many of the next starts by the fabric fail, and what each would take.
    pub(crate) fails: Vec<Rung>,
}

fn domain(from: usize, to: usize) -> String {
    format!("{from}-TO-{to}")
}

impl Cables {
    /// The dice of the cables of this life.
    pub(super) const fn dice(seed: u64) -> Dice {
        Dice::new(seed ^ SALT)
    }

    pub(super) fn new(mut dice: Dice, setups: &[Setup]) -> Self {
        let count = setups.len();
        let troubles = Troubles::roll(&mut dice, 1);
        let of = |node: usize| {
            let others = (0..count).filter(|other| *other != node);
            let port = |(number, other): (usize, usize)| Port {
                // The first is the one of host.link.
                interface: format!("en{}", 5 + number),
                domain: domain(node, other),
                other: domain(other, node),
                has_no_device_until: 0,
                moved: None,
            };
            others.enumerate().map(port).take(PORTS_MAX).collect()
        };
        Self {
            dice,
            troubles,
            ports: (0..count).map(of).collect(),
            readers: (0..count).map(|_| Reader::default()).collect(),
        }
    }

    fn told(&self, place: usize, t: u64) -> Vec<ThunderboltPort> {
        self.ports[place].iter().map(|port| port.told(t)).collect()
    }

    /// What a node feels now. A change is read once it has settled, and all is read anew by another
    /// supervisor.
    fn feel(&mut self, place: usize, t: u64, instance: u64) -> Felt {
        let truth = self.told(place, t);
        let soon = t + self.dice.between(0, 3_000);
        let settled = t + self.dice.between(1_000, 12_000);
        let reader = &mut self.readers[place];
        if reader.instance != instance {
            *reader = Reader { instance, next_at: Some(soon), ..Reader::default() };
        }
        if reader.read.as_ref() != Some(&truth) {
            reader.next_at.get_or_insert(settled);
        }
        if reader.next_at.is_some_and(|at| t >= at) && t >= reader.unread_until {
            reader.read = Some(truth.clone());
            reader.next_at = None;
        }
        let shown = reader.read.clone().filter(|_| t >= reader.unread_until);
        let count = self.ports.len();
        let of = |other: usize| self.ports[other].iter().map(|port| port.domain.clone()).collect();
        Felt { shown, truth, domains: (0..count).map(of).collect(), fails: Vec::new() }
    }

    /// Every cable is where it belongs, and every device is there.
    fn heal(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.has_no_device_until = 0;
            port.moved = None;
        }
        self.readers.iter_mut().for_each(|reader| reader.unread_until = 0);
    }
}

impl Felt {
    /// Whether the devices of this matrix truly lead from this node to the others.
    fn leads(&self, place: usize, devices: &Devices) -> bool {
        let Some(row) = devices.get(place) else { return false };
        row.iter().enumerate().filter(|(other, _)| *other != place).all(|(other, device)| {
            let port = self.truth.iter().find(|port| port.rdma_device == *device);
            let seen = port.and_then(|port| port.peer_domain_uuid.as_ref());
            device.is_some()
                && seen.is_some_and(|seen| {
                    self.domains.get(other).is_some_and(|domains| domains.contains(seen))
                })
        })
    }
}

impl Pair {
    /// What goes wrong with cables and devices before a node's next turn.
    pub(super) fn strike_cables(&mut self, place: usize) {
        let t = self.lives[place].node.t;
        if !self.lives[place].node.setup.uses_fabric || !self.faulty {
            return;
        }
        let count = self.lives.len();
        let until = t + self.cables.dice.pick(&[3_000, 10_000, 40_000, 150_000]);
        let number = usize::try_from(self.cables.dice.below(count as u64 - 1)).unwrap_or_default();
        let mut struck = Vec::new();
        for trouble in FabricTrouble::ALL {
            let every = self.cables.troubles.every(*trouble);
            if self.cables.dice.once_in(every) {
                struck.push(*trouble);
            }
        }
        for trouble in struck {
            self.lives[place].node.met.mark(&format!("trouble {}", trouble.name()));
            self.tell(format!("trouble {} at {place}, port {number}", trouble.name()));
            match trouble {
                FabricTrouble::DeviceMissing => {
                    self.cables.ports[place][number].has_no_device_until = until;
                }
                FabricTrouble::CableOut => self.move_cable(place, number, until, [None, None]),
                FabricTrouble::CableMoved => {
                    let stranger = Some("A-STRANGER".to_owned());
                    self.move_cable(place, number, until, [stranger, None]);
                }
                FabricTrouble::SeenByOne => {
                    self.cables.ports[place][number].moved = Some((None, until));
                }
                FabricTrouble::PortsUnread => self.cables.readers[place].unread_until = until,
                FabricTrouble::FabricFails => {
                    let rungs =
                        [Rung::Restart, Rung::Restart, Rung::Restart, Rung::Reboot, Rung::Hold];
                    let rung = self.cables.dice.pick(&rungs);
                    let times = self.cables.dice.between(1, 4);
                    let fails = (0..times).map(|_| rung).collect();
                    self.with_fails(place, fails);
                }
            }
        }
    }

    /// A cable's two ends see something else.
    fn move_cable(&mut self, place: usize, number: usize, until: u64, sees: [Option<String>; 2]) {
        let other = self.cables.ports[place][number].other.clone();
        let [near, far] = sees;
        self.cables.ports[place][number].moved = Some((near, until));
        let ports = self.cables.ports.iter_mut().flatten();
        for port in ports.filter(|port| port.domain == other) {
            port.moved = Some((far.clone(), until));
        }
    }

    /// What a node's ports are to it now.
    pub(super) fn surround_by_cables(&mut self, place: usize) {
        let node = &self.lives[place].node;
        let instance = node.around.as_ref().map_or(0, |around| around.instance);
        if !node.setup.uses_fabric {
            return;
        }
        let felt = self.cables.feel(place, node.t, instance);
        if let Some(around) = &mut self.lives[place].node.around {
            let fails = std::mem::take(&mut around.fabric.fails);
            around.fabric = Felt { fails, ..felt };
        }
    }

    /// Every cable and device is as it should be.
    pub(super) fn mend_cables(&mut self) {
        self.cables.heal();
        (0..self.lives.len()).for_each(|place| self.with_fails(place, Vec::new()));
    }

    fn with_fails(&mut self, place: usize, fails: Vec<Rung>) {
        if let Some(around) = &mut self.lives[place].node.around {
            around.fabric.fails = fails;
        }
    }

    /// No cable or device is wrong any more; but at times one cable stays out, where the ring may
    /// serve in the fabric's place.
    pub(super) fn heal_cables(&mut self) {
        self.mend_cables();
        let setup = &self.lives[0].node.setup;
        let may_be_out = setup.uses_fabric && setup.ring_fallback;
        match self.cables.dice.below(6) {
            _ if !may_be_out => {}
            0 => {
                self.tell("one cable stays out".into());
                self.move_cable(0, 0, u64::MAX, [None, None]);
            }
            1 => {
                self.tell("the fabric goes on failing".into());
                self.with_fails(0, vec![Rung::Restart; FAILS_MAX]);
            }
            _ => {}
        }
    }
}

impl Node {
    /// Whether a start by these devices fails here, and what the evidence of it asks for.
    pub(crate) fn fabric_failure(&mut self, carrier: &Carrier) -> Option<Rung> {
        let Carrier::Jaccl { devices } = carrier else { return None };
        let around = self.around.as_mut()?;
        if !around.fabric.leads(around.place, devices) {
            return Some(Rung::Restart);
        }
        around.fabric.fails.pop()
    }
}
