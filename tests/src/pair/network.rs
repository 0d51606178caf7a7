//! The ways between nodes. As the real link does, each node asks every other for its report on every
//! path, every `pair.report_ms`; of what comes back the newest counts.

use std::{collections::VecDeque, rc::Rc};

use tandem_policy::{
    Setup,
    pair::{NodeReport, PathSeen, PeerSeen},
    reboot::Stage,
};

use crate::dice::Dice;

/// Paths between two nodes: the cable that the ring goes over, and the LAN.
pub(super) const PATHS: usize = 2;

/// Most questions that are made up for when a node's time has gone on by much.
const ASKED_MAX: u64 = 12;

/// What is remembered of what a node said, so that it can be asked about the near past.
const VOICES_MAX: usize = 32;

/// Old reports of each node that may be shown again.
const OLD_MAX: usize = 16;

/// Largest report, in bytes: what the link takes.
pub(super) const REPORT_BYTES_MAX: usize = 65_536;

/// One report on its way, in the form that the link sends.
type Text = Rc<str>;

/// All ways, and what is on them.
pub(super) struct Network {
    /// From, to, path.
    ways: Vec<Way>,
    /// What each node says when it is asked.
    voices: Vec<VecDeque<Voice>>,
    /// What each node hears.
    ears: Vec<Ear>,
    /// Old reports of each node.
    pub(super) old: Vec<VecDeque<Old>>,
    asked: u64,
}

/// The way of one node's questions to another over one path, with their answers.
#[derive(Clone, Default)]
pub(super) struct Way {
    pub(super) cut_until: u64,
    pub(super) lossy_until: u64,
    pub(super) slow_until: u64,
    pub(super) repeats_until: u64,
}

/// A report that may be shown long after it was made.
pub(super) struct Old {
    /// In which boot it was made.
    pub(super) boot: String,
    /// The epoch that it tells to start, with a rank 0 that listens; 0 if none.
    pub(super) epoch: u64,
    /// The reboot that it tells of, and how far that is.
    reboot: Option<(String, Stage)>,
    pub(super) text: Text,
}

impl Old {
    fn of(boot: &str, report: &NodeReport, text: &Text) -> Self {
        let listens = report.ranks.first().is_some_and(|rank| rank.phase.is_some());
        let start = report.start.as_ref().filter(|_| listens);
        Self {
            boot: boot.to_owned(),
            epoch: start.map_or(0, |start| start.epoch),
            reboot: report.reboot.as_ref().map(|told| (told.intent.id.clone(), told.stage)),
            text: Rc::clone(text),
        }
    }

    /// Whether it tells the same of epochs and reboots.
    fn is_like(&self, other: &Self) -> bool {
        (&self.boot, self.epoch, &self.reboot) == (&other.boot, other.epoch, &other.reboot)
    }
}

/// From when on a node says this; `None` is nothing.
struct Voice {
    at: u64,
    instance: u64,
    text: Option<Text>,
}

/// What one node's supervisor has heard.
#[derive(Default)]
struct Ear {
    instance: u64,
    asked_until: u64,
    under_way: Vec<Arrival>,
    heard: Vec<Heard>,
}

/// An answer.
struct Arrival {
    at: u64,
    from: usize,
    path: usize,
    /// By which the newest is known: the sender's supervisor, and the number of the question.
    age: (u64, u64),
    text: Text,
}

/// What was heard of one node.
#[derive(Clone, Default)]
struct Heard {
    newest: Option<((u64, u64), Text, u64)>,
    /// When each path last brought an answer.
    answered: [Option<u64>; PATHS],
}

/// Who listens.
pub(super) struct Listener<'a> {
    pub(super) place: usize,
    pub(super) t: u64,
    pub(super) booted_at: u64,
    /// Number of its supervisor, and since when that runs.
    pub(super) instance: u64,
    pub(super) since: u64,
    pub(super) setup: &'a Setup,
}

impl Network {
    pub(super) fn new(count: usize) -> Self {
        Self {
            ways: vec![Way::default(); count * count * PATHS],
            voices: (0..count).map(|_| VecDeque::new()).collect(),
            ears: (0..count)
                .map(|_| Ear { heard: vec![Heard::default(); count], ..Ear::default() })
                .collect(),
            old: (0..count).map(|_| VecDeque::new()).collect(),
            asked: 0,
        }
    }

    fn count(&self) -> usize {
        self.voices.len()
    }

    /// The way of questions of one node to another.
    pub(super) fn way(&mut self, from: usize, to: usize, path: usize) -> &mut Way {
        let index = (from * self.count() + to) * PATHS + path;
        &mut self.ways[index]
    }

    fn is_cut(&self, from: usize, to: usize, path: usize, t: u64) -> bool {
        t < self.ways[(from * self.count() + to) * PATHS + path].cut_until
    }

    /// Whether both nodes reach each other over this path.
    pub(super) fn is_up(&self, one: usize, other: usize, path: usize, t: u64) -> bool {
        !self.is_cut(one, other, path, t) && !self.is_cut(other, one, path, t)
    }

    /// Whether a node is answered by another over this path, soon and surely.
    pub(super) fn is_clear(&self, from: usize, to: usize, path: usize, t: u64) -> bool {
        let way = &self.ways[(from * self.count() + to) * PATHS + path];
        t >= way.cut_until && t >= way.lossy_until
    }

    /// The same, and nothing makes the answers slow.
    pub(super) fn is_prompt(&self, from: usize, to: usize, path: usize, t: u64) -> bool {
        let way = &self.ways[(from * self.count() + to) * PATHS + path];
        self.is_clear(from, to, path, t) && t >= way.slow_until
    }

    /// Whether the ring can form: the first path is up between all.
    pub(super) fn is_ring_whole(&self, t: u64) -> bool {
        let count = self.count();
        (0..count).all(|one| (one + 1..count).all(|other| self.is_up(one, other, 0, t)))
    }

    /// Every way is as it should be again.
    pub(super) fn heal(&mut self) {
        self.ways.iter_mut().for_each(|way| *way = Way::default());
    }

    /// What is on its way to a node is not taken.
    pub(super) fn drop_under_way(&mut self, place: usize) {
        self.ears[place].under_way.clear();
    }

    /// From now on a node says this; `None` while no supervisor of it runs.
    pub(super) fn says(&mut self, place: usize, at: u64, instance: u64, text: Option<Text>) {
        let voices = &mut self.voices[place];
        let is_same = |last: &Voice| last.instance == instance && last.text == text;
        if voices.back().is_some_and(is_same) {
            return;
        }
        voices.push_back(Voice { at, instance, text });
        if voices.len() > VOICES_MAX {
            voices.pop_front();
        }
    }

    /// It said nothing between these two times.
    pub(super) fn slept(&mut self, place: usize, from: u64, until: u64) {
        let Some(last) = self.voices[place].back() else { return };
        let (instance, text) = (last.instance, last.text.clone());
        self.says(place, from, instance, None);
        self.says(place, until, instance, text);
    }

    /// Keeps a report that may be shown again long after: the last of those that tell the same.
    pub(super) fn keep(&mut self, place: usize, boot: &str, report: &NodeReport, text: &Text) {
        let new = Old::of(boot, report, text);
        let old = &mut self.old[place];
        old.retain(|old| !old.is_like(&new));
        old.push_back(new);
        if old.len() > OLD_MAX {
            old.pop_front();
        }
    }

    /// What a node sees of the others now.
    pub(super) fn heard(
        &mut self,
        who: &Listener<'_>,
        dice: &mut Dice,
    ) -> Result<Vec<PeerSeen>, String> {
        let count = self.count();
        let ear = &mut self.ears[who.place];
        if ear.instance != who.instance {
            *ear = Ear {
                instance: who.instance,
                asked_until: who.since,
                heard: vec![Heard::default(); count],
                under_way: Vec::new(),
            };
        }
        self.ask(who, dice);
        self.take_arrivals(who);
        (0..count).filter(|other| *other != who.place).map(|other| self.seen(who, other)).collect()
    }

    /// Asks all that was due since it last was.
    fn ask(&mut self, who: &Listener<'_>, dice: &mut Dice) {
        let period_ms = who.setup.pair.report_ms;
        let first =
            self.ears[who.place].asked_until.max(who.t.saturating_sub(ASKED_MAX * period_ms));
        let mut at = first + period_ms;
        while at <= who.t {
            for other in (0..self.count()).filter(|other| *other != who.place) {
                for path in 0..PATHS {
                    self.ask_one(who.place, other, path, at, dice);
                }
            }
            self.ears[who.place].asked_until = at;
            at += period_ms;
        }
    }

    fn ask_one(&mut self, who: usize, other: usize, path: usize, at: u64, dice: &mut Dice) {
        self.asked += 1;
        let way = self.way(who, other, path).clone();
        let is_lost = at < way.lossy_until && dice.below(10) < 8;
        if at < way.cut_until || is_lost {
            return;
        }
        let voice = self.voices[other].iter().rev().find(|voice| voice.at <= at);
        let Some(Voice { instance, text: Some(text), .. }) = voice else { return };
        let (age, text) = ((*instance, self.asked), Rc::clone(text));
        let copies = if at < way.repeats_until { 2 } else { 1 };
        for _ in 0..copies {
            let most = if at < way.slow_until { 4_000 } else { 60 };
            let arrival = Arrival {
                at: at + dice.between(1, most),
                from: other,
                path,
                age,
                text: Rc::clone(&text),
            };
            self.ears[who].under_way.push(arrival);
        }
    }

    /// The link's rule: what is not newer than the newest is dropped.
    fn take_arrivals(&mut self, who: &Listener<'_>) {
        let ear = &mut self.ears[who.place];
        ear.under_way.sort_by_key(|arrival| arrival.at);
        let come = ear.under_way.iter().take_while(|arrival| arrival.at <= who.t).count();
        for arrival in ear.under_way.drain(..come) {
            let Some(heard) = ear.heard.get_mut(arrival.from) else { continue };
            heard.answered[arrival.path] = Some(arrival.at);
            if heard.newest.as_ref().is_none_or(|(age, ..)| *age < arrival.age) {
                heard.newest = Some((arrival.age, arrival.text, arrival.at));
            }
        }
    }

    fn seen(&self, who: &Listener<'_>, other: usize) -> Result<PeerSeen, String> {
        let heard = &self.ears[who.place].heard[other];
        let limit_ms = who.setup.pair.silence_timeout_ms;
        let path = |(number, answered): (usize, &Option<u64>)| {
            let is_up = answered.is_some_and(|at| who.t - at <= limit_ms);
            PathSeen {
                address: format!("10.0.{number}.{other}:52390"),
                is_up,
                round_trip_us: answered.map(|_| 250),
                throughput_mbps: None,
                problem: if is_up { String::new() } else { "no answer".into() },
            }
        };
        let report = match &heard.newest {
            Some((_, text, at)) => Some((read(text)?, at.saturating_sub(who.booted_at))),
            None => None,
        };
        Ok(PeerSeen {
            node: who.setup.nodes[other].name.clone(),
            is_paired: true,
            paths: heard.answered.iter().enumerate().map(path).collect(),
            report,
            differences: Vec::new(),
        })
    }
}

/// A report as the link reads it.
pub(super) fn read(text: &str) -> Result<NodeReport, String> {
    serde_json::from_str(text).map_err(|e| format!("a report can't be read: {e}: {text}"))
}

/// A report as the link sends it.
pub(super) fn write(report: &NodeReport) -> Result<Text, String> {
    let text = serde_json::to_string(report).map_err(|e| format!("a report can't be told: {e}"))?;
    if text.len() > REPORT_BYTES_MAX {
        return Err(format!("a report of {} bytes", text.len()));
    }
    Ok(text.into())
}
