//! `tandem supervise`: the turn loop around `tandem_policy`.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tandem_console::{
    Build, Publisher,
    control::{ControlServer, Orders},
};
use tandem_ledger::{Ledger, Limits, Opened, Reader};
use tandem_policy::{Event, State, Turns, What, World};
use tracing::{error, info, warn};

use crate::{
    config::Config,
    service::Output,
    world::{Parts, RealWorld, RunDir},
};

/// Name of the socket in the run directory that takes orders.
pub const CONTROL_SOCKET: &str = "control.sock";

/// Most past events that the metrics count: more would cost memory that the supervisor keeps.
const RECALLED_MAX: usize = 1_000;

/// How often memory is given back: a start is long over by then, and what it costs (a millisecond, and
/// reading again what is still used) is nothing in a minute.
const RELEASE_PERIOD: Duration = Duration::from_secs(60);

/// How often the log file is looked at: newsyslog renames it at most every half hour.
const OUTPUT_PERIOD: Duration = Duration::from_secs(60);

/// Least time between two turns, so that a storm of events costs little.
const TURN_PAUSE: Duration = Duration::from_millis(5);

/// Supervises until asked to end. To be called within a tokio runtime.
pub async fn run(config: Config, config_path: &Path) -> anyhow::Result<()> {
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
    let boot = tandem_host::boot_id();
    let (ledger, memory) = open_ledger(&config, &boot)?;
    let control = ControlServer::bind(&run_dir.place_for_socket(CONTROL_SOCKET))
        .context("can't make the control socket")?;
    let orders = Orders::new(memory.state.last_order);
    let mut publisher = Publisher::new(Build { version: env!("CARGO_PKG_VERSION").into() });
    tokio::spawn(control.serve(orders.clone()));
    let published = publisher.published();
    tokio::spawn(async move {
        if let Err(error) = tandem_console::http::serve(listener, published).await {
            error!("the status endpoint ended: {error}");
        }
    });

    let state_dir = config.node.state_dir.clone();
    tokio::spawn(release_memory());
    tokio::spawn(follow_output());
    let config = Arc::new(config);
    let mut setup = config.policy_setup();
    let mut world = RealWorld::new(Parts {
        config_path: config_path.canonicalize().context("can't find the config again")?,
        config,
        run_dir,
        ledger,
        lost: memory.lost,
        epoch: memory.state.epoch,
        orders,
    })
    .await
    .context("can't begin to supervise")?;
    let mut turns = Turns::new(memory.state);
    recall(&publisher, &state_dir);
    let started = started(&mut world, &boot, memory.is_new_boot);
    turns.tell(started.clone());
    publisher.tell(started);
    loop {
        let changed = world.changed();
        if let Some(config) = world.new_config() {
            setup = config.policy_setup();
        }
        for event in world.news() {
            turns.tell(event.clone());
            publisher.tell(event);
        }
        let turn = turns.take(&setup, &mut world);
        for event in turn.events {
            log(&event);
            publisher.tell(event);
        }
        publisher.publish(turn.status);
        if let Some(saved) = turns.saved() {
            world.confirm(saved.last_order);
        }
        if turn.ends {
            info!("all is stopped");
            return Ok(());
        }
        let _ = tokio::time::timeout(turns.idle(world.now()), changed).await;
        tokio::time::sleep(TURN_PAUSE).await;
    }
}

/// Gives back what starts needed, its own and the ranks', from time to time.
async fn release_memory() {
    loop {
        tokio::time::sleep(RELEASE_PERIOD).await;
        tandem_host::release_start_memory();
    }
}

/// Goes on in the new file when the one that standard error goes to was renamed.
async fn follow_output() {
    let Some(output) = Output::of_standard_error() else { return };
    let output = Arc::new(output);
    loop {
        tokio::time::sleep(OUTPUT_PERIOD).await;
        let output = Arc::clone(&output);
        // A disk may let it wait for long.
        match tokio::task::spawn_blocking(move || output.follow()).await {
            Ok(Ok(true)) => info!("this file was begun anew"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => warn!("the log can't be opened again: {error}"),
            Err(error) => return warn!("the log is not followed any more: {error}"),
        }
    }
}

/// What the supervisor goes on from.
struct Memory {
    state: State,
    /// Why earlier memory was lost, if it was.
    lost: Option<String>,
    is_new_boot: bool,
}

fn open_ledger(config: &Config, boot: &str) -> anyhow::Result<(Ledger, Memory)> {
    let folder = &config.node.state_dir;
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .with_context(|| format!("can't make {} (node.state_dir)", folder.display()))?;
    let (ledger, opened) = Ledger::open(folder, Limits::default()).with_context(|| {
        format!("can't open the ledger in {} (node.state_dir)", folder.display())
    })?;
    let memory = match opened {
        Opened::Fresh => Memory { state: State::new(boot), lost: None, is_new_boot: true },
        Opened::Found(state) => {
            let is_new_boot = state.boot != boot;
            Memory { state: state.resumed(boot), lost: None, is_new_boot }
        }
        Opened::SetAside { to, why } => {
            let lost = format!("it could not be used ({why}) and is kept as {}", to.display());
            warn!("the ledger: {lost}; going on without it, and without automatic reboots");
            let state = State::after_loss(boot, tandem_host::now());
            Memory { state, lost: Some(lost), is_new_boot: false }
        }
    };
    Ok((ledger, memory))
}

/// Lets the metrics go on where the last supervisor's were: with what the ledger still has.
fn recall(publisher: &Publisher, state_dir: &Path) {
    let events = Reader::open(state_dir).and_then(|reader| reader.events(None, RECALLED_MAX, None));
    match events {
        Ok(past) => publisher.recall(past.events.iter().map(|(_, event)| event)),
        Err(error) => warn!("the metrics begin anew: {error}"),
    }
}

fn started(world: &mut RealWorld, boot: &str, is_new_boot: bool) -> Event {
    let now = world.now();
    let what = What::Started {
        boot: boot.to_owned(),
        is_new_boot,
        version: env!("CARGO_PKG_VERSION").into(),
    };
    Event { wall_ms: now.wall_ms, boot_ms: now.boot_ms, what }
}

/// Tells the log what happened.
fn log(event: &Event) {
    match &event.what {
        What::FaultRaised(fault) => {
            warn!(fault = fault.kind.name(), rung = ?fault.rung, "fault: {}", fault.evidence);
        }
        What::FaultCleared(fault) => info!(fault = fault.kind.name(), "fault is over"),
        What::Drift { invariant, found, wanted } => {
            warn!(invariant = invariant.row().name, "drifted: {found}, wanted {wanted}");
        }
        What::Held { invariant, after_ms } => {
            info!(invariant = invariant.row().name, "holds again after {after_ms} ms");
        }
        What::Epoch { epoch, from, to, cause: Some(cause) } if to == "held" => {
            error!(epoch, "ranks: {from} → {to}: {cause}");
        }
        What::Epoch { epoch, from, to, cause: Some(cause) } => {
            warn!(epoch, "ranks: {from} → {to}: {cause}");
        }
        What::Epoch { epoch, from, to, cause: None } => info!(epoch, "ranks: {from} → {to}"),
        What::Gateway { from, to, cause: Some(cause) } => error!("gateway: {from} → {to}: {cause}"),
        What::Gateway { from, to, cause: None } => info!("gateway: {from} → {to}"),
        What::Leak { verdict, unexplained_bytes } => {
            warn!("leaked memory: {verdict}, {} MiB unexplained", unexplained_bytes >> 20);
        }
        What::Canary { passed: false, detail } => warn!("canary failed: {detail}"),
        What::Reboot { phase, cause, intent, .. } => {
            let intent = intent.as_deref().unwrap_or("none");
            warn!(intent, "reboot: {phase}: {}", cause.as_deref().unwrap_or("no cause"));
        }
        What::RebootClosed { intent, cause, outcome, detail, took_ms, .. } => {
            warn!(intent, took_ms, "reboot: {}: {cause}: {detail}", outcome.name());
        }
        What::Retune { model, prefill_step_tokens } => {
            warn!("prefill step of {model} is now {prefill_step_tokens} tokens");
        }
        What::Peer { node, change, detail } => info!("{node}: {change:?}: {detail}"),
        What::Mode { mode, why } => {
            warn!("serves as {mode}: {}", why.as_deref().unwrap_or("the others can take part"));
        }
        What::Order { order } => info!("operator: {order}"),
        What::Started { .. }
        | What::Gate(_)
        | What::Action { .. }
        | What::Canary { passed: true, .. }
        | What::Evidence { .. }
        | What::Config { .. } => {}
    }
}
