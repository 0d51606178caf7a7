//! Whatever is submitted, cancelled, refused, lost and answered in whatever order: the bounds hold
//! after every single step, and in the end nobody is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::engine_link::places::URGENT_MAX;

const MAX_SUBMITTED: usize = 5;
const SEEDS: u64 = 300;
const TURNS: usize = 400;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((x ^ (x >> 27)) >> 20) % bound
    }
}

/// The link, the socket in both directions, and a rank that obeys when it comes to it.
struct World {
    link: LinkState,
    now: Instant,
    /// The frame that is being written.
    writing: Option<Outgoing>,
    to_rank: VecDeque<Outgoing>,
    from_rank: VecDeque<FromRank>,
    /// What the rank runs: tokens so far, by wire id; and which of it is urgent.
    held: BTreeMap<u64, u32>,
    urgent: BTreeSet<u64>,
    /// Who still waits for an end.
    readers: BTreeSet<u64>,
    epoch: u64,
    is_up: bool,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut world = Self {
            link: LinkState::new(MAX_SUBMITTED, now),
            now,
            writing: None,
            to_rank: VecDeque::new(),
            from_rank: VecDeque::new(),
            held: BTreeMap::new(),
            urgent: BTreeSet::new(),
            readers: BTreeSet::new(),
            epoch: 0,
            is_up: false,
        };
        world.connect();
        world
    }

    fn event(&mut self, event: Event) {
        let ended = if let Event::Cancel { id } = &event { Some(*id) } else { None };
        for action in self.link.handle(self.now, event) {
            match action {
                Action::Send(frame) => {
                    assert!(self.is_up && self.writing.is_none(), "two frames at once");
                    self.writing = Some(frame);
                }
                Action::Deliver { id, progress } => {
                    assert!(self.readers.contains(&id), "{id} is told {progress:?} after its end");
                    if matches!(progress, Progress::Done(_) | Progress::Failed(_)) {
                        self.readers.remove(&id);
                    }
                }
                Action::Close(why) => panic!("{why}"),
            }
        }
        if let Some(id) = ended {
            self.readers.remove(&id);
        }
        self.check();
    }

    fn check(&self) {
        let frames = self.to_rank.iter().chain(&self.writing);
        let submits: Vec<&Submit> = frames
            .filter_map(|frame| match frame {
                Outgoing::Submit(submit) => Some(&**submit),
                _ => None,
            })
            .collect();
        let urgent = self.held.keys().filter(|id| self.urgent.contains(id)).count()
            + submits.iter().filter(|submit| submit.urgent).count();
        let all = self.held.len() + submits.len();
        assert!(all <= MAX_SUBMITTED + URGENT_MAX, "{all} with the rank or on the way");
        assert!(all - urgent <= MAX_SUBMITTED, "{all} with the rank, {urgent} of them urgent");
        let load = self.link.load();
        assert!(load.running + load.ending <= MAX_SUBMITTED + URGENT_MAX, "{load:?}");
        assert!(self.link.places.unsent_cancels() <= MAX_SUBMITTED + URGENT_MAX);
        assert_eq!(self.link.flights.len(), self.readers.len(), "a flight without a reader");
        assert_eq!(load.waiting + load.running, self.readers.len(), "{load:?}");
        // One frame is kept for each submission, one for each cancel, and one question.
        assert!(self.to_rank.len() <= 2 * (MAX_SUBMITTED + URGENT_MAX) + 1);
    }

    fn connect(&mut self) {
        self.epoch += 1;
        self.is_up = true;
        self.event(Event::Connected);
        self.event(Event::Message(hello(self.epoch)));
        self.event(Event::Message(phase(Phase::Ready)));
    }

    fn disconnect(&mut self) {
        self.is_up = false;
        self.writing = None;
        self.to_rank.clear();
        self.from_rank.clear();
        self.held.clear();
        self.urgent.clear();
        self.event(Event::Disconnected("gone".into()));
    }

    fn written(&mut self) {
        if let Some(frame) = self.writing.take() {
            // A rank that takes nothing leaves the frames in the socket, which has room for some.
            self.to_rank.push_back(frame);
            self.event(Event::Written);
        }
    }

    /// The rank takes all that came: as the real one, it answers for every request once.
    fn obey(&mut self, random: &mut Random) {
        while let Some(frame) = self.to_rank.pop_front() {
            match frame {
                Outgoing::Submit(submit) => {
                    let id = submit.id;
                    let code = match random.below(12) {
                        0 => FailureCode::Full,
                        1 => FailureCode::NotReady,
                        _ => {
                            self.held.insert(id, submit.generated.len() as u32);
                            if submit.urgent {
                                self.urgent.insert(id);
                            }
                            continue;
                        }
                    };
                    self.from_rank.push_back(failed(code)(id));
                }
                Outgoing::Cancel(id) => {
                    if self.held.remove(&id).is_some() {
                        self.from_rank.push_back(failed(FailureCode::Cancelled)(id));
                    }
                }
                Outgoing::Vitals => self.from_rank.push_back(vitals(random.below(1 << 30), 1)),
            }
        }
    }

    /// One step of the rank: a token of each, and some end.
    fn step(&mut self, random: &mut Random) {
        let mut ended = Vec::new();
        for (id, tokens) in &mut self.held {
            let token =
                Token { id: *id, index: *tokens, token: 10, logprob: None, top: Vec::new() };
            self.from_rank.push_back(FromRank::Token(token));
            *tokens += 1;
            if *tokens == job().max_tokens || random.below(4) == 0 {
                let done = FromRank::Done { id: *id, reason: FinishReason::Stop };
                self.from_rank.push_back(done);
                ended.push(*id);
            }
        }
        for id in ended {
            self.held.remove(&id);
        }
    }

    fn hear(&mut self) {
        if let Some(message) = self.from_rank.pop_front() {
            self.event(Event::Message(message));
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.event(Event::Tick);
    }
}

fn day(seed: u64) {
    let mut random = Random(seed);
    let mut world = World::new();
    let mut next_id = 0;
    for _ in 0..TURNS {
        match random.below(20) {
            0..6 => {
                next_id += 1;
                // Canaries are few; the gateway sees to that.
                let urgent = random.below(20) == 0;
                world.readers.insert(next_id);
                let job = Job { urgent, ..job() };
                world.event(Event::Submit { id: next_id, job });
            }
            6..10 => {
                let nth = random.below(world.readers.len().max(1) as u64) as usize;
                let id = world.readers.iter().nth(nth).copied().unwrap_or(0);
                world.event(Event::Cancel { id });
            }
            10..13 => world.written(),
            13 => world.obey(&mut random),
            14 => world.step(&mut random),
            15..18 => world.hear(),
            18 => world.wait(Duration::from_millis(random.below(40))),
            _ if random.below(12) == 0 => {
                world.disconnect();
                world.wait(Duration::from_millis(50));
                world.connect();
            }
            _ => {}
        }
    }
    // The storm is over: everything that is left is answered.
    for _ in 0..4_000 {
        world.written();
        world.obey(&mut random);
        world.step(&mut random);
        while !world.from_rank.is_empty() {
            world.hear();
        }
        world.wait(Duration::from_millis(50));
        if world.readers.is_empty() && world.writing.is_none() {
            break;
        }
    }
    assert_eq!(world.readers, BTreeSet::new(), "seed {seed}: somebody never got an end");
    let idle = Load { waiting: 0, running: 0, ending: 0, silent_since: None };
    assert_eq!(world.link.load(), idle, "seed {seed}: a place is not given back");
}

#[test]
fn bounds_hold_after_every_step_of_every_order() {
    for seed in 0..SEEDS {
        day(seed);
    }
}

#[test]
fn a_storm_of_cancels_does_not_spend_a_step_on_what_is_given_up_at_once() {
    let mut link = Link::ready(64);
    let age = Duration::from_millis(4);
    let mut submitted = 0;
    for id in 1..=1_000 {
        submitted += submissions(&link.submit(id)).len();
        submitted += submissions(&link.wait(age)).len();
        for action in link.event(Event::Cancel { id }) {
            if let Action::Send(Outgoing::Cancel(wire_id)) = action {
                link.message(failed(FailureCode::Cancelled)(wire_id));
            }
        }
    }
    assert!(submitted < 50, "{submitted} of 1000 got to the rank");
    // Who stays is served, a little later.
    assert_eq!(submissions(&link.submit(2_000)), []);
    let wake = link.state.next_wake().unwrap();
    assert!(wake <= link.now + 2 * age);
    assert_eq!(submissions(&link.wait(wake - link.now)).len(), 1);
}
