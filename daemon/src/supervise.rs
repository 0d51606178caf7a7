//! `tandem supervise`: the turn loop around `policy::decide`.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    config::Config,
    policy::{self, Action, State, Status},
    status,
    world::{RealWorld, RunDir, World, boot_id},
};

/// A turn is taken at least this often, whatever happens: deadlines are met by it.
const TURN_PERIOD: Duration = Duration::from_secs(1);

/// Least time between two turns, so that a storm of events costs little.
const TURN_PAUSE: Duration = Duration::from_millis(10);

/// Supervises until asked to end. To be called within a tokio runtime.
pub async fn run(config: Config, config_path: &Path) -> anyhow::Result<()> {
    check_model(&config)?;
    let run_dir = RunDir::take(&config)?;
    let listener =
        tokio::net::TcpListener::bind(config.supervise.status_listen).await.with_context(|| {
            format!("can't listen on {} (supervise.status_listen)", config.supervise.status_listen)
        })?;
    info!(
        node = config.node.name,
        model = config.model.served_id(),
        ranks = config.rank.len(),
        status = %config.supervise.status_listen,
        api = %config.gateway.listen,
        "supervising"
    );
    let config = Arc::new(config);
    let mut world = RealWorld::new(Arc::clone(&config), config_path, run_dir)
        .context("can't begin to supervise")?;
    let state = world.store().load(&boot_id());
    let (publish, published) = watch::channel(None);
    tokio::spawn(status::serve(listener, published));

    let mut turns = Turns::new(state);
    loop {
        let changed = world.changed();
        let (status, ends) = turns.take(&config, &mut world);
        publish.send_replace(Some(status));
        if ends {
            info!("all is stopped");
            return Ok(());
        }
        let _ = tokio::time::timeout(turns.idle(&mut world), changed).await;
        tokio::time::sleep(TURN_PAUSE).await;
    }
}

fn check_model(config: &Config) -> anyhow::Result<()> {
    let file = config.model.path.join("config.json");
    anyhow::ensure!(
        file.exists(),
        "model.path: there is no {}; `tandem model import FILE.gguf` makes such a folder",
        file.display()
    );
    Ok(())
}

/// The loop's own memory, and one turn of it.
pub struct Turns {
    state: State,
    /// What is known to be on disk; `None` before the first save.
    saved: Option<State>,
}

impl Turns {
    /// Goes on from this state.
    pub const fn new(state: State) -> Self {
        Self { state, saved: None }
    }

    /// How long the next turn may wait if nothing changes: until the next deadline, at most
    /// [`TURN_PERIOD`].
    fn idle(&self, world: &mut impl World) -> Duration {
        let now_ms = world.now().boot_ms;
        let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(now_ms));
        self.state.next_deadline_ms().map_or(TURN_PERIOD, |at_ms| until(at_ms).min(TURN_PERIOD))
    }

    /// Observe, decide, save, act. Returns what to publish and whether all is done. While the state
    /// can't be saved, no risky action is done; policy asks for it again on the next turn.
    pub fn take(&mut self, config: &Config, world: &mut impl World) -> (Status, bool) {
        let now = world.now();
        let seen = world.observe();
        let decision = policy::decide(config, &self.state, &seen, now);
        self.report(&decision.state);
        self.state = decision.state;
        if self.saved.as_ref() != Some(&self.state) {
            match world.save(&self.state) {
                Ok(()) => self.saved = Some(self.state.clone()),
                Err(error) => error!("{:#}", anyhow::Error::new(error)),
            }
        }
        let is_saved = self.saved.as_ref() == Some(&self.state);
        let mut ends = false;
        for action in &decision.actions {
            if action.is_risky() && !is_saved {
                warn!("not done because the state could not be saved: {action:?}");
                continue;
            }
            ends |= *action == Action::Exit;
            world.perform(action);
        }
        (decision.status, ends)
    }

    fn report(&self, next: &State) {
        if next.gang != self.state.gang {
            let (from, to) = (self.state.gang.name(), next.gang.name());
            let epoch = next.epoch;
            match &next.gang {
                policy::gang::Phase::Held { reason } => error!(epoch, "ranks are held: {reason}"),
                policy::gang::Phase::Stopping { cause, .. } => {
                    warn!(epoch, "ranks: {from} → {to}: {cause:?}");
                }
                _ => info!(epoch, "ranks: {from} → {to}"),
            }
        }
        if next.gateway.name() != self.state.gateway.name() {
            match &next.gateway {
                policy::gateway::Phase::Held { reason } => error!("gateway is held: {reason}"),
                to => info!("gateway: {} → {}", self.state.gateway.name(), to.name()),
            }
        }
    }
}
