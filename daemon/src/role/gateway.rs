//! `tandem gateway`: the HTTP API as a process.

use tandem_gateway::GatewayError;
use tandem_wire::exit;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{config::Config, log};

/// Serves until SIGTERM or SIGINT; returns the exit code, whose meanings are a rank's
/// ([`tandem_wire::exit`]).
pub fn run(config: &Config) -> i32 {
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
        let mut setup = config.gateway_setup();
        setup.canary_key_hash = std::env::var(tandem_gateway::CANARY_KEY_HASH).ok();
        // Somebody reads them only where a supervisor does.
        setup.records = std::env::var_os(log::SUPERVISED).is_some();
        match tandem_gateway::run(setup, shutdown).await {
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
