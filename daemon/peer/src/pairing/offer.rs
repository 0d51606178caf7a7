//! The side of a pairing that shows the code and waits. Anyone may connect to it, so it is written
//! for strangers: nothing is parsed before its length is known, no connection waits for another,
//! and what a connection may hold, last and try is bounded.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{self, Duration, Instant},
};

use super::{
    Limits,
    attempts::{Attempts, Source},
    code::Code,
    frame::{Frame, Kind},
    introduction::Introduction,
    refused::Refused,
    session::{HelloError, Role, Session, Start},
    trust::{Node, Paired, Refusal, read_verdict, verdict},
};

/// Rest after a connection could not be accepted: that comes back at once when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the last frame may take to be handed to the system; it fits into an empty buffer.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// How an offer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A node joined, and both trust each other.
    Paired(Paired),
    /// Too many wrong codes came.
    TooManyWrong,
    /// The time was up.
    NobodyCame,
}

/// What the operator is told while an offer stands. Each is logged too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// A wrong code.
    #[error("a wrong code came from {source_ip}; {left} more end this offer")]
    WrongCode {
        /// From where.
        source_ip: IpAddr,
        /// How many more are allowed.
        left: u32,
    },
    /// The code was right, and this node does not want the other.
    #[error("{name} ({source_ip}) has the code but is not trusted: {refusal}")]
    Here {
        /// From where.
        source_ip: IpAddr,
        /// How it calls itself; "it" where that made no sense.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The code was right, and the other does not want this node.
    #[error("{name} ({source_ip}) has the code but does not trust this node: {refusal}")]
    There {
        /// From where.
        source_ip: IpAddr,
        /// Its name.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The code was right, and then the connection broke or was tampered with.
    #[error("{source_ip} has the code but broke off; it may try again")]
    Broken {
        /// From where.
        source_ip: IpAddr,
    },
}

/// How far a connection has come. The further, the less likely that it is dropped for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    /// Nothing whole came.
    Connected = 0,
    /// It said hello.
    Greeted = 1,
    /// It proved the code: never dropped for another.
    Proven = 2,
}

struct State {
    attempts: Attempts,
    /// One connection has proven the code; the others wait until it is through.
    is_claimed: bool,
    /// A node was paired.
    is_over: bool,
}

struct Offer {
    node: Node,
    code: Code,
    began: Instant,
    state: Mutex<State>,
}

/// Waits on a listener until a node with the code was paired, too many wrong codes came, or the
/// time is up. `notice` is called with what the operator should see.
pub async fn offer(
    listener: &TcpListener,
    node: Node,
    code: Code,
    limits: &Limits,
    mut notice: impl FnMut(&Notice),
) -> Ended {
    let began = Instant::now();
    let attempts = Attempts::new(limits.first_pause);
    let state = Mutex::new(State { attempts, is_claimed: false, is_over: false });
    let offer = Arc::new(Offer { node, code, began, state });
    let mut connections = Connections { tasks: JoinSet::new(), open: Vec::new() };
    let ended = loop {
        tokio::select! {
            () = time::sleep_until(began + limits.offer) => break Ended::NobodyCame,
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => connections.take_in(&offer, stream, from, limits),
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(outcome) = connections.next() => match outcome {
                Outcome::Paired(paired) => return Ended::Paired(paired),
                Outcome::Told(told) => {
                    tell(&told, &mut notice);
                    if matches!(told, Notice::WrongCode { left: 0, .. }) {
                        break Ended::TooManyWrong;
                    }
                }
                Outcome::Nothing => {}
            },
        }
    };
    // One that has proven the code may be pinned already; it has its own time limit.
    connections.drop_unproven();
    while let Some(outcome) = connections.next().await {
        match outcome {
            Outcome::Paired(paired) => return Ended::Paired(paired),
            Outcome::Told(told) => tell(&told, &mut notice),
            Outcome::Nothing => {}
        }
    }
    ended
}

fn tell(told: &Notice, notice: &mut impl FnMut(&Notice)) {
    tracing::warn!("{told}");
    notice(told);
}

/// How a connection ended.
enum Outcome {
    Paired(Paired),
    Told(Notice),
    /// A stranger, or one that was dropped: of no use to an operator, and as many as they like.
    Nothing,
}

struct Connections {
    tasks: JoinSet<Outcome>,
    /// Those not dropped, oldest first.
    open: Vec<Open>,
}

struct Open {
    source: Source,
    stage: Arc<AtomicU8>,
    task: AbortHandle,
}

impl Connections {
    fn take_in(
        &mut self,
        offer: &Arc<Offer>,
        stream: TcpStream,
        from: SocketAddr,
        limits: &Limits,
    ) {
        let rows: Vec<(Source, u8)> =
            self.open.iter().map(|o| (o.source, o.stage.load(Ordering::Acquire))).collect();
        if rows.len() >= limits.connections_max {
            let Some(victim) = victim(&rows) else { return };
            self.open.remove(victim).task.abort();
        }
        let stage = Arc::new(AtomicU8::new(Stage::Connected as u8));
        let source = Source::of(from.ip());
        let connection = Connection {
            offer: offer.clone(),
            stream,
            from,
            source_ip: from.ip().to_canonical(),
            source,
            stage: stage.clone(),
        };
        let task = self.tasks.spawn(connection.run(limits.connection));
        self.open.push(Open { source, stage, task });
    }

    /// The next connection that ended; `None` while there is none at all.
    async fn next(&mut self) -> Option<Outcome> {
        let (id, outcome) = match self.tasks.join_next_with_id().await? {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Outcome::Nothing),
        };
        self.open.retain(|open| open.task.id() != id);
        Some(outcome)
    }

    fn drop_unproven(&mut self) {
        for open in &self.open {
            if open.stage.load(Ordering::Acquire) < Stage::Proven as u8 {
                open.task.abort();
            }
        }
    }
}

/// Which connection makes room for a new one: of the source that has most, the one that has come
/// least far, the oldest of those. So neither connections that never say anything nor many from one
/// place keep out an honest join, which is through in a moment.
fn victim(open: &[(Source, u8)]) -> Option<usize> {
    let crowd = |source: Source| open.iter().filter(|(other, _)| *other == source).count();
    open.iter()
        .enumerate()
        .filter(|(_, (_, stage))| *stage < Stage::Proven as u8)
        .min_by_key(|(_, (source, stage))| (usize::MAX - crowd(*source), *stage))
        .map(|(index, _)| index)
}

struct Connection {
    offer: Arc<Offer>,
    stream: TcpStream,
    from: SocketAddr,
    source_ip: IpAddr,
    source: Source,
    stage: Arc<AtomicU8>,
}

/// Held by the one connection that has proven the code.
struct Claim(Arc<Offer>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.state().is_claimed = false;
    }
}

impl Offer {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the frame that has to prove the code. Under one lock: two tries at once are two, and
    /// none is made after the last. What can't be tried now is refused unseen, and does not count.
    fn prove(
        self: &Arc<Self>,
        source: Source,
        session: &mut Session,
        frame: &Frame,
    ) -> Result<(Vec<u8>, Claim), (Refused, Option<u32>)> {
        let now = self.began.elapsed();
        let mut state = self.state();
        if state.is_over || state.is_claimed || state.attempts.left() == 0 {
            return Err((Refused::Busy, None));
        }
        if let Some(rest) = state.attempts.pause(source, now) {
            return Err((Refused::paused(rest), None));
        }
        match session.open(frame) {
            Some(body) => {
                state.is_claimed = true;
                Ok((body, Claim(self.clone())))
            }
            None => Err((Refused::WrongCode, Some(state.attempts.wrong(source, now)))),
        }
    }
}

impl Connection {
    async fn run(mut self, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        let mut claim = None;
        let agreed = time::timeout_at(deadline, self.agree(&mut claim)).await;
        match agreed {
            Ok(Ok((session, other))) => self.pin(session, &other).await,
            Ok(Err(outcome)) => outcome,
            // Too slow.
            Err(_) if claim.is_some() => self.broken(),
            Err(_) => Outcome::Nothing,
        }
    }

    fn broken(&self) -> Outcome {
        Outcome::Told(Notice::Broken { source_ip: self.source_ip })
    }

    fn reach(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    async fn refuse(&mut self, refused: Refused) {
        // Who does not hear it learns it by the end of the connection.
        let _ = refused.frame().write(&mut self.stream).await;
    }

    /// Everything up to the moment when both want to trust each other.
    async fn agree(
        &mut self,
        claim: &mut Option<Claim>,
    ) -> Result<(Session, Introduction), Outcome> {
        let (mut session, body) = self.prove(claim).await?;
        let source_ip = self.source_ip;
        let other = Introduction::parse(&body);
        let judged =
            other.as_ref().ok_or(Refusal::Malformed).and_then(|other| self.offer.node.judge(other));
        let answer = match judged {
            Ok(()) => session.seal(Kind::Introduction, &self.offer.node.introduction()),
            Err(_) => session.seal(Kind::Verdict, &verdict(judged)),
        };
        let written = answer.write(&mut self.stream).await;
        let name = other.as_ref().map_or_else(|| "it".to_owned(), |other| other.name.clone());
        if let Err(refusal) = judged {
            return Err(Outcome::Told(Notice::Here { source_ip, name, refusal }));
        }
        let answered = match written {
            Ok(()) => Frame::read(&mut self.stream, &[Kind::Verdict]).await,
            Err(error) => Err(error),
        };
        let body = answered.ok().and_then(|frame| session.open(&frame));
        match (body, other) {
            (Some(body), Some(other)) => match read_verdict(&body) {
                Ok(()) => Ok((session, other)),
                Err(refusal) => Err(Outcome::Told(Notice::There { source_ip, name, refusal })),
            },
            _ => Err(self.broken()),
        }
    }

    /// Hellos, and the frame that proves the code; its body is the other's introduction.
    async fn prove(&mut self, claim: &mut Option<Claim>) -> Result<(Session, Vec<u8>), Outcome> {
        let nothing = |_| Outcome::Nothing;
        let hello = Frame::read(&mut self.stream, &[Kind::Hello]).await.map_err(nothing)?;
        let pause = self.offer.state().attempts.pause(self.source, self.offer.began.elapsed());
        if let Some(rest) = pause {
            self.refuse(Refused::paused(rest)).await;
            return Err(Outcome::Nothing);
        }
        let start = Start::new(Role::Offerer, &self.offer.code);
        let own = start.hello().clone();
        let mut session = match start.finish(&hello) {
            Ok(session) => session,
            Err(HelloError::Version) => {
                self.refuse(Refused::Version).await;
                return Err(Outcome::Nothing);
            }
            Err(HelloError::Malformed) => return Err(Outcome::Nothing),
        };
        self.reach(Stage::Greeted);
        own.write(&mut self.stream).await.map_err(nothing)?;

        let frame = Frame::read(&mut self.stream, &[Kind::Introduction]).await.map_err(nothing)?;
        match self.offer.prove(self.source, &mut session, &frame) {
            Ok((body, claimed)) => {
                self.reach(Stage::Proven);
                *claim = Some(claimed);
                Ok((session, body))
            }
            Err((refused, wrong)) => {
                self.refuse(refused).await;
                let source_ip = self.source_ip;
                Err(wrong.map_or(Outcome::Nothing, |left| {
                    Outcome::Told(Notice::WrongCode { source_ip, left })
                }))
            }
        }
    }

    /// The code was proven and both agree. No time limit may cut this in two.
    async fn pin(mut self, mut session: Session, other: &Introduction) -> Outcome {
        let pinned = self.offer.node.pin(other, self.from);
        if pinned.is_ok() {
            self.offer.state().is_over = true;
        }
        let sealed =
            session.seal(Kind::Verdict, &verdict(pinned.as_ref().map(|_| ()).map_err(|r| *r)));
        let _ = time::timeout(LAST_WRITE, sealed.write(&mut self.stream)).await;
        match pinned {
            Ok(paired) => Outcome::Paired(paired),
            Err(refusal) => Outcome::Told(Notice::Here {
                source_ip: self.source_ip,
                name: other.name.clone(),
                refusal,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_the_largest_crowd_its_least_far_and_its_oldest() {
        let of = |n: u8| Source::of(IpAddr::from([10, 0, 0, n]));
        let rows: [(&[(u8, u8)], Option<usize>); 6] = [
            (&[(1, 0), (1, 0)], Some(0)),
            (&[(1, 1), (1, 0), (1, 0)], Some(1)),
            (&[(2, 0), (1, 1), (1, 1)], Some(1)),
            (&[(2, 0), (1, 2), (1, 1)], Some(2)),
            (&[(2, 0), (1, 2)], Some(0)),
            (&[(1, 2)], None),
        ];
        for (open, expected) in rows {
            let open: Vec<_> = open.iter().map(|(n, stage)| (of(*n), *stage)).collect();
            assert_eq!(victim(&open), expected, "{open:?}");
        }
    }
}
