//! The gateway: Tandem's OpenAI-compatible HTTP API.
//!
//! It owns everything that is text (tokeniser, chat templates, stop strings, reasoning tags) and
//! everything that is HTTP, and talks tokens with rank 0 of the engine over a Unix socket
//! ([`tandem_wire`]). It outlives the engine: requests in flight when the engine dies are handed
//! to the next one with the tokens they already have, and their streams go on.

mod auth;
mod settings;

use std::{future::Future, net::SocketAddr, path::PathBuf};

pub use auth::hash_api_key;
pub use settings::{SamplingDefaults, Settings};

/// What the gateway process is told by its config.
#[derive(Clone, Debug)]
pub struct GatewaySetup {
    /// The `[gateway]` section.
    pub settings: Settings,
    /// Folder of the model: tokeniser, chat template and end tokens are read from it.
    pub model_dir: PathBuf,
    /// The name the model is served as.
    pub model_id: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// Socket of rank 0; it need not exist yet.
    pub rank_socket: PathBuf,
}

/// Why the gateway could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting is out of range or unsafe; the text names the key.
    #[error("{0}")]
    Settings(String),
    /// The model folder lacks or garbles something that the gateway needs.
    #[error("the model folder can't be used: {0}")]
    Model(String),
    /// The address can't be listened on.
    #[error("can't listen on {address} (gateway.listen)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Serves until `shutdown` resolves, then takes no new requests, finishes the running ones for at
/// most `drain_timeout_ms`, and returns.
pub async fn run(
    setup: GatewaySetup,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), GatewayError> {
    setup.settings.validate().map_err(GatewayError::Settings)?;
    shutdown.await;
    Ok(())
}
