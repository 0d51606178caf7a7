//! One connection to an offer, from its first byte to a pinned node or to its end.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    net::TcpStream,
    time::{self, Duration, Instant},
};

use super::{
    attempts::{Attempts, Source},
    code::Code,
    frame::{Frame, Kind},
    introduction::Introduction,
    offer::Notice,
    refused::Refused,
    session::{HelloError, Role, Session, Start},
    trust::{Node, Paired, Refusal, read_verdict, verdict},
};

/// How long the last frame may take to be handed to the system; it fits into an empty buffer.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// How far a connection has come. The further, the less likely that it is dropped for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Nothing whole came.
    Connected,
    /// It said hello.
    Greeted,
    /// Its code was looked at: never dropped for another, because what came of it must be told.
    Judged,
}

/// A connection's stage, as its offer sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    fn reach(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Release);
    }

    pub(super) fn stage(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Connected,
            1 => Stage::Greeted,
            _ => Stage::Judged,
        }
    }
}

struct State {
    attempts: Attempts,
    /// One connection has proven the code; the others wait until it is through.
    is_claimed: bool,
    /// A node was paired.
    is_over: bool,
}

/// What all connections to one offer share.
pub(super) struct Offer {
    node: Node,
    code: Code,
    began: Instant,
    state: Mutex<State>,
}

/// How a connection ended.
pub(super) enum Outcome {
    Paired(Paired),
    Told(Notice),
    /// A stranger, or one that was dropped: of no use to an operator, and as many as they like.
    Nothing,
}

/// One connection.
pub(super) struct Connection {
    offer: Arc<Offer>,
    stream: TcpStream,
    from: SocketAddr,
    source: Source,
    progress: Progress,
    /// Held from the moment it has proven the code.
    claim: Option<Claim>,
    /// What is said last, whatever time is left.
    last: Option<Frame>,
}

/// Held by the one connection that has proven the code.
struct Claim(Arc<Offer>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.state().is_claimed = false;
    }
}

impl Offer {
    pub(super) fn new(node: Node, code: Code, began: Instant, first_pause: Duration) -> Self {
        let attempts = Attempts::new(first_pause);
        let state = Mutex::new(State { attempts, is_claimed: false, is_over: false });
        Self { node, code, began, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
    pub(super) fn new(
        offer: Arc<Offer>,
        stream: TcpStream,
        from: SocketAddr,
        progress: Progress,
    ) -> Self {
        let source = Source::of(from.ip());
        Self { offer, stream, from, source, progress, claim: None, last: None }
    }

    /// Runs the exchange; it may last this long, and then says what there is to say at the end.
    pub(super) async fn run(mut self, limit: Duration) -> Outcome {
        let outcome = match time::timeout(limit, self.agree()).await {
            Ok(Ok((session, other))) => self.pin(session, &other),
            Ok(Err(outcome)) => outcome,
            // Too slow.
            Err(_) if self.claim.is_some() => self.broken(),
            Err(_) => Outcome::Nothing,
        };
        if let Some(frame) = self.last.take() {
            // Who does not hear it learns it by the end of the connection.
            let _ = time::timeout(LAST_WRITE, frame.write(&mut self.stream)).await;
        }
        outcome
    }

    fn source_ip(&self) -> IpAddr {
        self.from.ip().to_canonical()
    }

    fn broken(&self) -> Outcome {
        Outcome::Told(Notice::Broken { source_ip: self.source_ip() })
    }

    /// Everything up to the moment when both want to trust each other.
    async fn agree(&mut self) -> Result<(Session, Introduction), Outcome> {
        let (mut session, body) = self.prove().await?;
        let source_ip = self.source_ip();
        let other = Introduction::parse(&body).ok_or(Refusal::Malformed);
        let judged = other.as_ref().map_err(|refusal| *refusal);
        let judged = judged.and_then(|other| self.offer.node.judge(other));
        if let Err(refusal) = judged {
            self.last = Some(session.seal(Kind::Verdict, &verdict(judged)));
            let name = other.map_or_else(|_| "it".to_owned(), |other| other.name);
            return Err(Outcome::Told(Notice::Here { source_ip, name, refusal }));
        }
        let own = session.seal(Kind::Introduction, &self.offer.node.introduction());
        let answered = match own.write(&mut self.stream).await {
            Ok(()) => Frame::read(&mut self.stream, &[Kind::Verdict]).await,
            Err(error) => Err(error),
        };
        let body = answered.ok().and_then(|frame| session.open(&frame));
        match (body.as_deref().map(read_verdict), other) {
            (Some(Ok(())), Ok(other)) => Ok((session, other)),
            (Some(Err(refusal)), Ok(Introduction { name, .. })) => {
                Err(Outcome::Told(Notice::There { source_ip, name, refusal }))
            }
            _ => Err(self.broken()),
        }
    }

    /// Hellos, and the frame that proves the code; its body is the other's introduction.
    async fn prove(&mut self) -> Result<(Session, Vec<u8>), Outcome> {
        let nothing = |_| Outcome::Nothing;
        let hello = Frame::read(&mut self.stream, &[Kind::Hello]).await.map_err(nothing)?;
        let pause = self.offer.state().attempts.pause(self.source, self.offer.began.elapsed());
        if let Some(rest) = pause {
            self.last = Some(Refused::paused(rest).frame());
            return Err(Outcome::Nothing);
        }
        let start = Start::new(Role::Offerer, &self.offer.code);
        let own = start.hello().clone();
        let mut session = match start.finish(&hello) {
            Ok(session) => session,
            Err(HelloError::Version) => {
                self.last = Some(Refused::Version.frame());
                return Err(Outcome::Nothing);
            }
            Err(HelloError::Malformed) => return Err(Outcome::Nothing),
        };
        self.progress.reach(Stage::Greeted);
        own.write(&mut self.stream).await.map_err(nothing)?;

        let frame = Frame::read(&mut self.stream, &[Kind::Introduction]).await.map_err(nothing)?;
        // No await until its outcome is on its way: nothing that was counted goes untold.
        self.progress.reach(Stage::Judged);
        match self.offer.prove(self.source, &mut session, &frame) {
            Ok((body, claim)) => {
                self.claim = Some(claim);
                Ok((session, body))
            }
            Err((refused, wrong)) => {
                self.last = Some(refused.frame());
                let source_ip = self.source_ip();
                Err(wrong.map_or(Outcome::Nothing, |left| {
                    Outcome::Told(Notice::WrongCode { source_ip, left })
                }))
            }
        }
    }

    /// The code was proven and both agree.
    fn pin(&mut self, mut session: Session, other: &Introduction) -> Outcome {
        let pinned = self.offer.node.pin(other, self.from);
        let said = pinned.as_ref().map(|_| ()).map_err(|refusal| *refusal);
        self.last = Some(session.seal(Kind::Verdict, &verdict(said)));
        match pinned {
            Ok(paired) => {
                self.offer.state().is_over = true;
                Outcome::Paired(paired)
            }
            Err(refusal) => {
                let (source_ip, name) = (self.source_ip(), other.name.clone());
                Outcome::Told(Notice::Here { source_ip, name, refusal })
            }
        }
    }
}
