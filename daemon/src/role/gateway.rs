//! `tandem gateway`: the HTTP API as a process.

use std::future::Future;

use tandem_gateway::{GatewayError, GatewaySetup, ProxySetup};
use tandem_wire::exit;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{config::Config, log};

/// What a gateway does with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Answer them by rank 0, which runs on this machine
    #[default]
    Serve,
    /// Forward them to the gateway of the machine with rank 0
    Proxy,
    /// Answer them by the fallback model, which this machine serves alone
    Alone,
}

/// What a mode takes, ready to run.
enum Task {
    Serve(GatewaySetup),
    Proxy(ProxySetup),
}

/// Serves until SIGTERM or SIGINT; returns the exit code, whose meanings are a rank's
/// ([`tandem_wire::exit`]).
pub fn run(config: &Config, mode: Mode) -> i32 {
    let task = task(config, mode);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("the gateway can't start its threads: {error}");
            return exit::OS;
        }
    };
    runtime.block_on(async {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            error!("signals can't be received");
            return exit::OS;
        };
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("asked to end");
        };
        match carry_out(task, shutdown).await {
            Ok(()) => exit::OK,
            Err(error) => {
                let code = match &error {
                    GatewayError::Settings(_) => exit::USAGE,
                    GatewayError::Model(_) => exit::MODEL,
                    GatewayError::Listen { .. } => exit::OS,
                };
                error!("{:#}", anyhow::Error::new(error));
                code
            }
        }
    })
}

async fn carry_out(
    task: Task,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), GatewayError> {
    match task {
        Task::Serve(setup) => tandem_gateway::run(setup, shutdown).await,
        Task::Proxy(setup) => tandem_gateway::run_proxy(setup, shutdown).await,
    }
}

/// What is to be done.
fn task(config: &Config, mode: Mode) -> Task {
    let canary_key_hash = std::env::var(tandem_gateway::CANARY_KEY_HASH).ok();
    // Somebody reads them only where a supervisor does.
    let records = std::env::var_os(log::SUPERVISED).is_some();
    match mode {
        Mode::Serve => Task::Serve(GatewaySetup {
            canary_key_hash,
            peer_key_hash: std::env::var(tandem_gateway::PEER_KEY_HASH).ok(),
            records,
            ..config.gateway_setup()
        }),
        Mode::Proxy => Task::Proxy(ProxySetup { canary_key_hash, records, ..config.proxy_setup() }),
        Mode::Alone => {
            Task::Serve(GatewaySetup { canary_key_hash, records, ..alone_setup(config) })
        }
    }
}

/// What a gateway of the fallback model is told, by the config that [`Config::alone`] makes: its further
/// names are those of the model that it stands in for.
fn alone_setup(config: &Config) -> GatewaySetup {
    GatewaySetup {
        aliases: Vec::new(),
        stands_in_for: config.model.aliases.clone(),
        ..config.gateway_setup()
    }
}
