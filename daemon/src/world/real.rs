//! The real world: processes, sockets, clock, disk.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::{Uid, User};
use tandem_console::control::Orders;
use tandem_ledger::Ledger;
use tandem_policy::{
    Action, Event, GatewaySeen, Moment, Observation, OrderKind, RankSeen, Reading, SaveError,
    State, World, pair::NodeReport,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};
use tracing::warn;

use super::{
    RunDir, canary,
    child::{Child, Shared, Who},
    config_file,
    evidence::{self, Signatures},
    files::{self, ModelFiles},
    health,
    host::{HostThread, Watched},
    launch::{Launcher, Served},
    manifest,
    neighbours::Neighbours,
    reboot::Reboots,
    requests::Requests,
    unified_log::{self, Stream},
};
use crate::config::Config;

mod children;

/// The machine that this supervisor runs on.
pub struct RealWorld {
    config: Arc<Config>,
    shared: Shared,
    launcher: Launcher,
    canary_key: String,
    neighbours: Option<Neighbours>,
    /// The `[engine]` section that the ranks of all nodes were last started with.
    started: Option<tandem_engine::Settings>,
    manifest_watch: Option<JoinHandle<()>>,
    catalogue: Signatures,
    host: HostThread,
    reboots: Reboots,
    /// Where the last started gateway listens.
    gateway_listen: watch::Sender<SocketAddr>,
    requests: Requests,
    orders: Orders,
    ledger: Ledger,
    ledger_path: PathBuf,
    /// Why the last save failed.
    unsaved: Option<String>,
    /// Why earlier memory was lost; until an operator releases.
    lost: Option<String>,
    /// Holds the run directory for as long as this lives.
    _run_dir: RunDir,
}

/// What a [`RealWorld`] is made of.
pub struct Parts {
    /// The accepted config.
    pub config: Arc<Config>,
    /// The file it came from, which is watched.
    pub config_path: PathBuf,
    /// The run directory.
    pub run_dir: RunDir,
    /// The ledger, and the folder it is in.
    pub ledger: Ledger,
    /// Why earlier memory was lost, if it was.
    pub lost: Option<String>,
    /// The last epoch that was begun, by that memory.
    pub epoch: u64,
    /// Operators' orders.
    pub orders: Orders,
}

impl RealWorld {
    /// Finds what an earlier supervisor left and begins to watch. To be called within a tokio
    /// runtime.
    pub async fn new(parts: Parts) -> anyhow::Result<Self> {
        let Parts { config, config_path, run_dir, ledger, lost, epoch, orders } = parts;
        let shared = Shared::new(config.own_ranks());
        let catalogue = signatures(&config, &shared);
        let canary_key = run_dir.key("canary.key")?;
        let peer_key = run_dir.key("peer.key")?;
        let launcher = Launcher {
            executable: std::env::current_exe()?,
            canary_key_hash: tandem_gateway::hash_api_key(&canary_key),
            peer_key_hash: tandem_gateway::hash_api_key(&peer_key),
            run_dir: run_dir.path.clone(),
            user: run_dir.user.clone(),
        };
        launcher.write_config(&config, Served::Together)?;
        let neighbours =
            Neighbours::start(&config, &shared, run_dir.user.as_ref(), &peer_key).await?;
        let mut world = Self {
            host: HostThread::start(shared.clone(), watched(&config, &launcher)),
            ledger_path: config.node.state_dir.clone(),
            shared,
            launcher,
            canary_key,
            neighbours,
            started: None,
            manifest_watch: None,
            catalogue,
            reboots: Reboots::default(),
            gateway_listen: watch::Sender::new(config.gateway.listen),
            requests: Requests::default(),
            orders,
            ledger,
            unsaved: None,
            lost,
            config,
            _run_dir: run_dir,
        };
        world.watch_manifest();
        world.find_running(epoch).await?;
        world.watch(config_path)?;
        Ok(world)
    }

    fn watch(&self, config_path: PathBuf) -> io::Result<()> {
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            tokio::spawn(count_signals(self.shared.clone(), signal(kind)?));
        }
        tokio::spawn(health::watch(self.shared.clone(), self.gateway_listen.subscribe()));
        tokio::spawn(evidence::watch_reports(
            self.shared.clone(),
            self.catalogue.clone(),
            self.config.host.report_dirs.clone(),
            home(self.launcher.user.as_ref()),
        ));
        if let Some(stream) = Stream::of_platform() {
            let (shared, catalogue) = (self.shared.clone(), self.catalogue.clone());
            tokio::spawn(unified_log::watch(shared, catalogue, stream));
        }
        let in_force = Config::clone(&self.config);
        tokio::spawn(config_file::watch(self.shared.clone(), config_path, in_force));
        let (orders, shared) = (self.orders.clone(), self.shared.clone());
        tokio::spawn(async move {
            loop {
                orders.arrived().await;
                shared.change(|_| {});
            }
        });
        Ok(())
    }

    /// Keeps the manifest of the model's files, to compare it with other nodes' and with that of the
    /// files with which serving was last proven.
    fn watch_manifest(&mut self) {
        if let Some(watch) = self.manifest_watch.take() {
            watch.abort();
        }
        let proven = files::load(&self.proven_file(), &self.config.model.path);
        let proven = proven.unwrap_or_else(|error| {
            warn!("{} is of no use: {error}", self.proven_file().display());
            None
        });
        self.shared.facts().files = ModelFiles::of(proven);
        let places = manifest::Places {
            model_dir: self.config.model.path.clone(),
            written: self.config.children_dir().join("manifest.json"),
            kept: self.config.node.state_dir.join("manifest.json"),
        };
        let command = {
            let executable = self.launcher.executable.clone();
            let config_path = Served::Together.config_path(&self.launcher.run_dir);
            let (user, places) = (self.launcher.user.clone(), places.clone());
            let level = self.config.node.log_level;
            move || manifest::command(&executable, &config_path, level, user.as_ref(), &places)
        };
        let spawn = move || tokio::process::Command::from(command()).kill_on_drop(true).spawn();
        let may_read = {
            let (shared, is_compared) = (self.shared.clone(), self.neighbours.is_some());
            move |since_ms| is_compared || is_time_to_read(&shared, since_ms)
        };
        let shared = self.shared.clone();
        let on_change = move |now| shared.change(|facts| facts.files.see(now));
        let clock = || tandem_host::now().boot_ms;
        let watch = manifest::watch(places, clock, may_read, spawn, on_change);
        self.manifest_watch = Some(tokio::spawn(watch));
    }

    fn proven_file(&self) -> PathBuf {
        self.config.node.state_dir.join("proven.json")
    }

    /// Remembers files with which serving was proven.
    fn keep_manifest(&self, digest: &str) {
        let Some(proven) = self.shared.facts().files.keep(digest) else { return };
        let (path, model_dir) = (self.proven_file(), self.config.model.path.clone());
        // Beside the turn: a disk may let a writer wait for long.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = files::save(&path, &model_dir, &proven) {
                warn!("{}: {error}; after a start no changed file is named", path.display());
            }
        });
    }

    /// Resolves when there may be something new to observe.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move { shared.changed().await }
    }

    /// The config that is in force from now on, if it changed.
    pub fn new_config(&mut self) -> Option<Arc<Config>> {
        let config = Arc::new(*self.shared.facts().new_config.take()?);
        if let Err(error) = self.launcher.write_config(&config, Served::Together) {
            warn!("the children's config can't be written: {error}");
        }
        // After it: what the model needs of memory is computed from that file.
        self.host.watch(watched(&config, &self.launcher));
        self.started = None;
        let is_other_model = self.config.model.path != config.model.path;
        self.config = Arc::clone(&config);
        if is_other_model {
            self.watch_manifest();
        }
        Some(config)
    }

    /// What the ledger is to be told besides what turns decide.
    pub fn news(&self) -> Vec<Event> {
        let Moment { boot_ms, wall_ms } = tandem_host::now();
        let news = std::mem::take(&mut self.shared.facts().news);
        news.into_iter().map(|what| Event { wall_ms, boot_ms, what }).collect()
    }

    /// Tells operators that their orders up to this number are obeyed, saved and published.
    pub fn confirm(&self, last_order: u64) {
        self.orders.obeyed(last_order);
    }

    /// Writes down what the gateway told of requests. Lost ones are no reason for anything.
    fn record_requests(&mut self) {
        let requests = self.requests.take();
        if requests.is_empty() {
            return;
        }
        if let Err(error) = self.ledger.record_requests(&requests) {
            warn!("{} requests are not in the history: {error}", requests.len());
        }
    }
}

/// The catalogue that the config names; if it is of no use, the built-in one, with a fault: a supervisor
/// that does not start mends nothing.
fn signatures(config: &Config, shared: &Shared) -> Signatures {
    evidence::catalogue(&config.host.signatures).unwrap_or_else(|error| {
        let why = evidence::unusable(error);
        warn!("the built-in signatures are used: {why}");
        shared.facts().config_refused = Some(why);
        Signatures::built_in()
    })
}

fn watched(config: &Config, launcher: &Launcher) -> Watched {
    let fit = {
        let (launcher, config) = (launcher.clone(), config.clone());
        move |served| launcher.fit(&config, served)
    };
    Watched {
        host: config.host.clone(),
        leak: config.leak.clone(),
        model_dir: config.model.path.clone(),
        fallback_dir: config.fallback.is_set().then(|| config.fallback.path.clone()),
        state_dir: config.node.state_dir.clone(),
        fit: Arc::new(fit),
        uses_fabric: config.uses_fabric(),
    }
}

/// How long the files of a model that no other node has are left alone while no rank runs: a start
/// may be about to read them.
const CALM_MS: u64 = 60_000;

/// Whether reading all files takes nothing from a rank that loads them.
fn is_time_to_read(shared: &Shared, since_ms: u64) -> bool {
    let facts = shared.facts();
    let mut running = facts.ranks.iter().filter(|(_, rank)| rank.pid().is_some()).peekable();
    match running.peek() {
        Some(_) => running.all(|(_, rank)| rank.phase == Some(tandem_wire::Phase::Ready)),
        None => tandem_host::now().boot_ms.saturating_sub(since_ms) >= CALM_MS,
    }
}

/// Home of the user that the children run as.
fn home(user: Option<&User>) -> Option<PathBuf> {
    let own = || User::from_uid(Uid::effective()).ok().flatten();
    user.cloned().or_else(own).map(|user| user.dir).filter(|dir| dir.is_absolute())
}

async fn count_signals(shared: Shared, mut signals: tokio::signal::unix::Signal) {
    while signals.recv().await.is_some() {
        shared.change(|facts| facts.terminations = facts.terminations.saturating_add(1));
    }
}

impl World for RealWorld {
    fn now(&mut self) -> Moment {
        tandem_host::now()
    }

    fn observe(&mut self) -> Observation {
        self.record_requests();
        let orders = self.orders.pending();
        if orders.iter().any(|order| order.what == OrderKind::Release) {
            self.lost = None;
        }
        let peers = self.neighbours.as_ref().map(Neighbours::seen).unwrap_or_default();
        let mut facts = self.shared.facts();
        facts.memory_kills.see(tandem_host::memory_kills(), Instant::now());
        let rank = |child: &Child| RankSeen {
            process: child.process.clone(),
            phase: child.phase,
            vitals: child.vitals.clone(),
        };
        let ready = match facts.ready {
            Some((value, at)) => Reading::Known {
                value,
                age_ms: u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX),
            },
            None => Reading::Unknown,
        };
        Observation {
            ranks: facts.ranks.iter().map(|(_, child)| rank(child)).collect(),
            gateway: GatewaySeen { process: facts.gateway.process.clone(), ready },
            terminations: facts.terminations,
            invariants: facts.invariants.clone(),
            thunderbolt: facts.thunderbolt.clone(),
            memory: facts.memory.clone(),
            artifacts: facts.artifacts.clone(),
            fallback_artifacts: facts.fallback_artifacts.clone(),
            manifest: facts.files.seen(),
            peers,
            evidence: facts.evidence.clone(),
            canary: facts.canary.clone(),
            requests: self.requests.seen(),
            orders,
            config_refused: facts.config_refused.clone(),
            ledger_trouble: self.unsaved.clone().or_else(|| self.lost.clone()),
        }
    }

    fn save(&mut self, state: &State, events: &[Event]) -> Result<(), SaveError> {
        match self.ledger.save(state, events) {
            Ok(()) => {
                self.unsaved = None;
                Ok(())
            }
            Err(error) => {
                self.unsaved = Some(format!("can't be written: {error}"));
                Err(SaveError::new(&self.ledger_path, error))
            }
        }
    }

    fn tell(&mut self, report: &NodeReport) {
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.set_manifest(self.shared.facts().files.manifest());
            neighbours.tell(report);
        }
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::Mend(repair) => self.host.mend(repair.clone()),
            Action::StartGang { epoch, prefill_step_tokens, alone, carrier } => {
                self.start_gang(*epoch, *prefill_step_tokens, *alone, carrier);
            }
            Action::StartGateway { mode } => self.start_gateway(*mode),
            Action::UnloadRank { rank } => self.with(self.place(*rank), Child::ask_to_end),
            Action::StopGateway => self.with(Who::Gateway, Child::ask_to_end),
            Action::KillRank { rank } => self.kill(self.place(*rank)),
            Action::KillGateway => self.kill(Who::Gateway),
            Action::Canary { epoch, number } => canary::send(
                self.shared.clone(),
                canary::Canary {
                    epoch: *epoch,
                    number: *number,
                    listen: self.config.gateway.listen,
                    model: self.config.model.served_id(),
                    key: self.canary_key.clone(),
                    max_tokens: self.config.canary.max_tokens,
                    timeout: Duration::from_millis(self.config.canary.timeout_ms),
                },
            ),
            Action::KeepManifest { digest } => self.keep_manifest(digest),
            Action::Reboot { attempt } => self.reboots.ask(&self.config.reboot.command, *attempt),
            Action::Exit => {}
        }
    }
}
