//! The rank process: everything around the executor.
//!
//! ```text
//!  threads                                                      owns
//!  main      forms the gang, then waits for incidents and       how and when the process ends
//!            watches the clock
//!  engine    start ▶ load ▶ warm up ▶ step… ▶ drop              the executor, alone
//!  hear-N    one for each other rank: frames, silence           ─
//!  heartbeat                                                    ─
//!  socket, read-N, write-N   gateway, supervisor, CLI           their connections
//!  signals   SIGTERM, SIGINT                                    ─
//! ```
//!
//! A native call can't be interrupted: MLX's ring waits for a lost peer without end. So the engine
//! thread is asked to stop and given `ENGINE_GRACE` to reach the border of a step and drop its
//! arrays; if it does not, the process ends without it.

mod follow;
mod gang;
mod intake;
mod lead;
mod pace;
mod server;
mod shared;
mod signals;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tandem_wire::{Hello, PROTOCOL_VERSION, Phase, Session, exit};

use self::follow::Follow;
use self::gang::Gang;
use self::lead::Lead;
use self::server::Server;
use self::shared::{Command, INBOX_MAX, Incident, Overdue, Shared};
use crate::EngineError;
use crate::control::form::Patience;
use crate::control::ring::Neighbours;
use crate::control::{Abort, Up};
use crate::settings::RankSetup;
use crate::start::Progress;
use crate::step::Execute;

/// How long the engine thread has to end after a fault: a rank is gone within a second of another's
/// death, of which its connection tells at once.
const ENGINE_GRACE: Duration = Duration::from_millis(400);
/// How long an error that may be another rank's doing waits for word from that rank's link.
const EVIDENCE_GRACE: Duration = Duration::from_millis(200);
/// How often the main thread looks at the clock while nothing happens.
const WATCH_PERIOD: Duration = Duration::from_millis(100);

/// Runs one rank from its socket's opening to its end. `start` is called on the engine thread,
/// with this rank's connections if the group is a ring; it forms MLX's group, loads the shard, and tells [`Progress`] meanwhile. `parity` is what it knows of
/// the model that must be equal on all ranks, as `(name, content)`.
///
/// Returns `Ok` after an orderly unload. After an error the caller logs it and exits with its
/// [`EngineError::exit_code`], best by [`exit_at_once`]. Where the engine thread can't be ended, the
/// process exits from here, with that same code and without running destructors.
pub fn run<E, S>(
    setup: RankSetup,
    session: Session,
    parity: Vec<(String, Vec<u8>)>,
    start: S,
) -> Result<(), EngineError>
where
    E: Execute + 'static,
    S: FnOnce(&RankSetup, Option<Neighbours>, &dyn Fn(Progress)) -> Result<E, EngineError>
        + Send
        + 'static,
{
    let world = setup.ranks.len() as u32;
    if setup.rank >= world {
        let message = format!("rank {} is not one of {world} [[rank]]s", setup.rank);
        return Err(EngineError::Usage(message));
    }
    let (incidents_sender, incidents) = mpsc::channel();
    let (inbox_sender, inbox) = mpsc::sync_channel(INBOX_MAX);
    let shared =
        Arc::new(Shared::new(incidents_sender, inbox_sender, setup.settings.step_timeout_ms));
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        epoch: session.epoch,
        rank: setup.rank,
        world,
        pid: std::process::id(),
    };
    let socket = setup.run_dir.join(format!("rank-{}.sock", setup.rank));
    let server = Server::open(socket, hello, Arc::clone(&shared))?;
    let _signals = signals::listen(Arc::clone(&shared))?;
    let form_timeout_ms = setup.settings.form_timeout_ms;
    let patience = Patience::new(form_timeout_ms, shared.unload_switch());
    let formed = Gang::form(&setup, &session, &parity, &patience, &shared, &server);
    let (gang, meeting) = match formed {
        Ok(Some(formed)) => formed,
        Ok(None) => {
            server.close();
            return Ok(());
        }
        Err(error) => {
            server.close();
            return Err(error);
        }
    };
    let patience_of_ring = patience.clone();
    let meet = move || match meeting {
        Some(meeting) => Ok(meeting.meet(&patience_of_ring)?.map(Some)),
        None => Ok(Some(None)),
    };
    if let Err(error) = spawn_engine(setup, inbox, meet, start, &gang, &server, &shared) {
        server.close();
        return Err(error);
    }
    let main = Main { incidents, gang, server, shared, patience };
    main.watch()
}

/// Starts the engine thread, which alone ever touches the executor, creates it and drops it. `meet`
/// makes the ring's connections, if the group is a ring; `None` if it was cancelled.
fn spawn_engine<E, S>(
    setup: RankSetup,
    inbox: Receiver<Command>,
    meet: impl FnOnce() -> Result<Option<Option<Neighbours>>, EngineError> + Send + 'static,
    start: S,
    gang: &Gang,
    server: &Arc<Server>,
    shared: &Arc<Shared>,
) -> Result<(), EngineError>
where
    E: Execute + 'static,
    S: FnOnce(&RankSetup, Option<Neighbours>, &dyn Fn(Progress)) -> Result<E, EngineError>
        + Send
        + 'static,
{
    let (gang, server, shared) = (gang.clone(), Arc::clone(server), Arc::clone(shared));
    let engine = move || {
        let teller = Arc::clone(&shared);
        let life = AssertUnwindSafe(|| {
            let begin_loading = || {
                shared.set_formed();
                server.set_phase(Phase::Loading);
            };
            let tell = |progress| match progress {
                Progress::Measured(transport) => shared.board.measured(transport),
                Progress::Loading => begin_loading(),
            };
            let Some(neighbours) = meet()? else { return Ok(()) };
            let executor = start(&setup, neighbours, &tell)?;
            begin_loading();
            server.set_card(executor.loaded().card.clone());
            shared.board.loaded(&executor);
            match gang {
                Gang::Leader(leader) => {
                    Lead::new(executor, &setup.settings, leader, server, shared, inbox).run()
                }
                Gang::Follower(follower) => Follow::new(executor, follower, shared, inbox).run(),
            }
        });
        let result = catch_unwind(life).unwrap_or_else(|_| {
            Err(EngineError::Software("the engine thread panicked; see the log".to_owned()))
        });
        teller.tell(Incident::EngineEnded(result));
    };
    let spawned = std::thread::Builder::new().name("engine".into()).spawn(engine);
    let what = || "the engine thread can't be started".to_owned();
    spawned.map(drop).map_err(|source| EngineError::Os { what: what(), source })
}

/// The main thread while the engine thread lives.
struct Main {
    incidents: Receiver<Incident>,
    gang: Gang,
    server: Arc<Server>,
    shared: Arc<Shared>,
    patience: Patience,
}

impl Main {
    /// Waits for whatever ends this rank.
    fn watch(self) -> Result<(), EngineError> {
        let mut unload_asked = None;
        loop {
            let began = Instant::now();
            let incident = self.incidents.recv_timeout(WATCH_PERIOD);
            // Stopped or starved meanwhile, it can't say of a step that it had this time.
            self.shared.board.excuse(began.elapsed().saturating_sub(2 * WATCH_PERIOD));
            match incident {
                Ok(Incident::Unload) => {
                    unload_asked = Some(Instant::now());
                    self.begin_unload();
                }
                Ok(Incident::EngineEnded(Ok(()))) => return self.end(),
                Ok(Incident::EngineEnded(Err(error))) => return self.fail(error, true),
                Ok(Incident::Fault(error)) => return self.fail(error, false),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let lost = EngineError::Software("no thread is left to wait for".to_owned());
                    return self.fail(lost, false);
                }
            }
            if let Some(error) = self.overdue() {
                return self.fail(error, false);
            }
            // In MLX's forming of the group a thread can't be reached, and nothing is loaded that
            // an abrupt end could strand. Loading, in contrast, is waited for.
            let waited = unload_asked.is_some_and(|asked| asked.elapsed() > ENGINE_GRACE);
            if waited && !self.shared.is_formed() {
                self.end_without_engine(exit::OK);
            }
        }
    }

    /// What the clock says went wrong.
    fn overdue(&self) -> Option<EngineError> {
        if !self.shared.is_formed() && Instant::now() >= self.patience.deadline {
            let timeout_ms = self.patience.timeout_ms;
            let message =
                format!("the ranks did not connect and try their group in {timeout_ms} ms");
            return Some(EngineError::Group(message));
        }
        let Overdue { seq, limit_ms } = self.shared.board.overdue()?;
        Some(EngineError::Stalled { seq, timeout_ms: limit_ms })
    }

    /// Rank 0's engine thread ends the log when it sees the switch; any other rank asks rank 0.
    fn begin_unload(&self) {
        self.server.set_phase(Phase::Unloading);
        match &self.gang {
            // No log yet that the engine thread could end.
            Gang::Leader(leader) if !self.shared.is_formed() => leader.end_log(0),
            Gang::Leader(leader) => leader.wake(),
            Gang::Follower(_) if self.shared.is_closing() => {}
            Gang::Follower(follower) => follower.tell(&Up::Unload),
        }
    }

    fn end(self) -> Result<(), EngineError> {
        self.server.set_phase(Phase::Unloading);
        self.server.close();
        tracing::info!("unloaded");
        Ok(())
    }

    /// Ends the gang, this rank with it.
    fn fail(self, error: EngineError, engine_ended: bool) -> Result<(), EngineError> {
        let error = self.better_evidence(error);
        self.shared.close();
        self.shared.stop();
        if let Gang::Leader(leader) = &self.gang {
            leader.wake();
        }
        self.gang.abort(Abort { code: error.exit_code(), reason: error.to_string() });
        let engine_ended = engine_ended || self.wait_engine();
        if !engine_ended {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(cause, "{error}");
            self.end_without_engine(error.exit_code());
        }
        self.server.close();
        Err(error)
    }

    /// A lost peer also shows as an error of MLX or of a write; the link to it says what happened.
    fn better_evidence(&self, error: EngineError) -> EngineError {
        if self.gang.is_alone() || !matches!(error, EngineError::Mlx { .. }) {
            return error;
        }
        let give_up = Instant::now() + EVIDENCE_GRACE;
        while let Ok(incident) =
            self.incidents.recv_timeout(give_up.saturating_duration_since(Instant::now()))
        {
            if let Incident::Fault(better) = incident {
                tracing::warn!(%error, "followed from a fault of the control channel");
                return better;
            }
        }
        error
    }

    fn wait_engine(&self) -> bool {
        let give_up = Instant::now() + ENGINE_GRACE;
        while let Ok(incident) =
            self.incidents.recv_timeout(give_up.saturating_duration_since(Instant::now()))
        {
            if matches!(incident, Incident::EngineEnded(_)) {
                return true;
            }
        }
        false
    }

    /// Ends the process although the engine thread runs: without destructors, for those of MLX
    /// would wait for the very thread that can't be ended.
    fn end_without_engine(&self, code: i32) -> ! {
        tracing::error!(code, "the engine thread is stuck; the process ends without it");
        self.server.close();
        exit_at_once(code)
    }
}

/// Ends the process without running destructors or `atexit` handlers. For after [`run`] too: those
/// of MLX join threads of its own, which after a fault may wait for a lost peer for ever.
pub fn exit_at_once(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}
