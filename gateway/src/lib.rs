//! The gateway: Tandem's OpenAI-compatible HTTP API.
//!
//! It owns everything that is text (tokeniser, chat templates, stop strings, reasoning tags) and
//! everything that is HTTP, and talks tokens with rank 0 of the engine over a Unix socket
//! ([`tandem_wire`]). It outlives the engine: requests in flight when the engine dies are handed
//! to the next one with the tokens they already have, and their streams go on.

mod answer;
mod app;
mod arrival;
mod auth;
mod chat_template;
mod choice;
mod connections;
mod conversation;
mod detokenize;
mod door;
mod engine_link;
mod error;
mod generation;
mod half_close;
mod marks;
mod model;
#[cfg(test)]
#[path = "../tests/gateway/model_folder.rs"]
mod model_folder;
mod proxy;
mod reading;
mod reasoning;
mod record;
mod records;
mod refusal;
mod request;
mod request_body;
mod routes;
mod server;
mod settings;
mod settle;
mod sse;
mod stall;
mod stop;
mod template_functions;
mod tokenizer;

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc};

pub use auth::hash_api_key;
pub use proxy::{ProxySetup, run_proxy, run_proxy_on};
pub use settings::{KeepAlive, SamplingDefaults, Settings};

/// Renders a conversation with a chat template, as for a request; `variables` are what else the
/// template may refer to. The error says why the template, or this conversation, is refused.
pub fn render_chat_template(
    template: &str,
    messages: &[serde_json::Value],
    variables: &serde_json::Map<String, serde_json::Value>,
    add_generation_prompt: bool,
) -> Result<String, String> {
    let template = chat_template::ChatTemplate::new(template, serde_json::Map::new())?;
    template
        .render(messages, variables, add_generation_prompt)
        .map_err(|error| format!("{error:?}"))
}

/// Name of the environment variable that tells a supervised gateway [`GatewaySetup::canary_key_hash`].
pub const CANARY_KEY_HASH: &str = "TANDEM_CANARY_KEY_HASH";

/// Name of the environment variable that tells a supervised gateway [`GatewaySetup::peer_key_hash`].
pub const PEER_KEY_HASH: &str = "TANDEM_PEER_KEY_HASH";

/// What the gateway process is told by its config.
#[derive(Clone, Debug)]
pub struct GatewaySetup {
    /// The `[gateway]` section.
    pub settings: Settings,
    /// Folder of the model: tokeniser, chat template and end tokens are read from it.
    pub model_dir: PathBuf,
    /// The name the model is served as.
    pub model_id: String,
    /// Other names it is served as.
    pub aliases: Vec<String>,
    /// Names of a model that this one stands in for. Requests for them are served, and told in every
    /// answer what serves them; they are not listed.
    pub stands_in_for: Vec<String>,
    /// Socket of rank 0; it need not exist yet.
    pub rank_socket: PathBuf,
    /// Hash, as [`hash_api_key`] makes it, of the key that the supervisor's own requests carry; it
    /// always comes in.
    pub canary_key_hash: Option<String>,
    /// Where the other nodes' gateways come in; only together with `peer_key_hash`. It need not be an
    /// address of this machine yet.
    pub peer_listen: Option<SocketAddr>,
    /// Hash, as [`hash_api_key`] makes it, of the key that the other nodes' gateways present there.
    pub peer_key_hash: Option<String>,
    /// Whether a line of JSON ([`tandem_wire::RequestRecord`]) is written to standard output for
    /// every request that ended.
    pub records: bool,
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
    let address = setup.settings.listen;
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| GatewayError::Listen { address, source })?;
    run_on(listener, setup, shutdown).await
}

/// As [`run`], on a listener that is already bound: `settings.listen` is only checked, not used.
pub async fn run_on(
    listener: tokio::net::TcpListener,
    setup: GatewaySetup,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), GatewayError> {
    setup.settings.validate().map_err(GatewayError::Settings)?;
    let peer_keys = peer_keys(&setup)?;
    let dir = setup.model_dir.clone();
    let model = tokio::task::spawn_blocking(move || model::Model::load(&dir))
        .await
        .map_err(|e| GatewayError::Model(e.to_string()))?
        .map_err(GatewayError::Model)?;
    if model.template.is_none() {
        tracing::warn!("the model has no chat template; only /v1/completions will answer");
    }
    let settings = setup.settings.clone();
    let keys = auth::Keys::new(&settings, setup.canary_key_hash.as_deref());
    let clients = door::Door::new(keys, &settings);
    let app = Arc::new(app::App::new(setup, model));
    tracing::info!(model = app.model_id, address = ?listener.local_addr().ok(), "listening");
    let server = server::Server::new(&settings);
    let drained = async {
        shutdown.await;
        tracing::info!("draining");
        app.drain().await;
        server.drained();
    };
    let peers = async {
        if let Some((address, keys)) = peer_keys {
            let door = door::Door::new(keys, &settings);
            server.serve_at(address, routes::for_peers(&app, &door)).await;
        }
    };
    tokio::join!(drained, server.serve(listener, routes::for_clients(&app, &clients)), peers);
    app.close().await;
    Ok(())
}

/// Where other nodes come in and with what; `None`: nowhere.
fn peer_keys(setup: &GatewaySetup) -> Result<Option<(SocketAddr, auth::Keys)>, GatewayError> {
    match (setup.peer_listen, &setup.peer_key_hash) {
        (None, _) => Ok(None),
        (Some(address), None) => {
            tracing::warn!(
                %address,
                "no key for other nodes is known ({PEER_KEY_HASH}), so they can't come in"
            );
            Ok(None)
        }
        (Some(address), Some(hash)) => match auth::Keys::of_peers(hash) {
            Some(keys) => Ok(Some((address, keys))),
            None => Err(GatewayError::Settings(format!(
                "{PEER_KEY_HASH} is not of the form that `tandem key` prints (sha256:...)"
            ))),
        },
    }
}

/// The real model that the test command names; tests that can use one do so where it is.
#[cfg(test)]
fn test_model_dir() -> Option<PathBuf> {
    std::env::var_os("TANDEM_MODEL").map(PathBuf::from)
}
