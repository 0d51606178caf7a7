//! The gateway of a node without rank 0: it admits clients as any gateway does and forwards what
//! they ask to the gateway of the node with rank 0, which comes in there by a listener for nodes.
//!
//! ```text
//!   client ──▶ door (keys, limits) ──▶ forward ──▶ pool ──▶ the other gateway's peer listener
//!          ◀────────── relay, as it comes ◀─────────────┘      (address and key: upstream_file)
//! ```
//!
//! It knows no model and reads no prompt. The other gateway is asked whether it lives while
//! something is forwarded, since a node that lost its power says nothing.

mod events;
mod forward;
mod health;
mod pool;
mod relay;
mod upstream;
mod watch;

use std::{
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, sync::Semaphore, sync::watch as channel};

use crate::{
    GatewayError, Settings,
    app::CANARIES_MAX,
    auth::Keys,
    door::{self, Door},
    error::ApiError,
    records::Records,
    server::Server,
};
use health::Health;
use pool::Pool;
use upstream::UpstreamFile;

/// What a proxying gateway is told by its config.
#[derive(Clone, Debug)]
pub struct ProxySetup {
    /// The `[gateway]` section. What is about the model is not used.
    pub settings: Settings,
    /// File that says where the gateway of the node with rank 0 is and with which key it is asked:
    /// `{"address":"169.254.7.1:52300","key":"..."}`. It need not exist yet, and is looked at again
    /// whenever it was replaced.
    pub upstream_file: PathBuf,
    /// Hash, as [`crate::hash_api_key`] makes it, of the key that the supervisor's own requests
    /// carry; it always comes in, and the other gateway is told.
    pub canary_key_hash: Option<String>,
    /// Name of this node: `/health` says that it answers through it.
    pub node: String,
    /// Whether a line of JSON ([`tandem_wire::RequestRecord`]) is written to standard output for
    /// every request that the drain cut off. All others are the other gateway's to record.
    pub records: bool,
}

/// Proxies until `shutdown` resolves, then takes no new requests, lets the running ones end for at
/// most `drain_timeout_ms`, and returns.
pub async fn run_proxy(
    setup: ProxySetup,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), GatewayError> {
    setup.settings.validate().map_err(GatewayError::Settings)?;
    let address = setup.settings.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| GatewayError::Listen { address, source })?;
    run_proxy_on(listener, setup, shutdown).await
}

/// As [`run_proxy`], on a listener that is already bound: `settings.listen` is only checked.
pub async fn run_proxy_on(
    listener: TcpListener,
    setup: ProxySetup,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), GatewayError> {
    setup.settings.validate().map_err(GatewayError::Settings)?;
    let door =
        Door::new(Keys::new(&setup.settings, setup.canary_key_hash.as_deref()), &setup.settings);
    tracing::info!(address = ?listener.local_addr().ok(), "listening, as a proxy");
    let server = Server::new(&setup.settings);
    let proxy = Arc::new(Proxy::new(setup));
    let drained = async {
        shutdown.await;
        tracing::info!("draining");
        proxy.drain().await;
        server.drained();
    };
    let serving = async { tokio::join!(drained, server.serve(listener, router(&proxy, &door))) };
    tokio::select! {
        _ = serving => {}
        () = watch::watch(&proxy) => {}
    }
    proxy.records.flush().await;
    Ok(())
}

/// `/health` is answered here and open; whatever else is asked needs a key where one is asked for,
/// and goes to the other gateway, which knows what there is.
fn router(proxy: &Arc<Proxy>, door: &Arc<Door>) -> Router {
    let health = Router::new()
        .route("/health", get(health::show))
        .method_not_allowed_fallback(door::wrong_method);
    let router = door.before(Router::new().fallback(forward::forward)).merge(health);
    door::named(router).with_state(Arc::clone(proxy))
}

/// State of the whole proxy.
struct Proxy {
    settings: Settings,
    node: String,
    upstream: UpstreamFile,
    pool: Pool,
    health: Health,
    slots: Arc<Semaphore>,
    canary_slots: Arc<Semaphore>,
    draining: AtomicBool,
    /// Of cut-off requests.
    records: Records,
    /// Whether the drain's time is up, so that what still runs is cut off.
    cut_off: channel::Sender<bool>,
    /// The same, for records.
    is_cut_off: Arc<AtomicBool>,
}

impl Proxy {
    fn new(setup: ProxySetup) -> Self {
        let settings = setup.settings;
        Self {
            node: setup.node,
            upstream: UpstreamFile::new(setup.upstream_file),
            pool: Pool::default(),
            health: Health::default(),
            slots: Arc::new(Semaphore::new(settings.max_queued as usize)),
            canary_slots: Arc::new(Semaphore::new(CANARIES_MAX)),
            draining: AtomicBool::new(false),
            records: Records::new(setup.records),
            cut_off: channel::Sender::new(false),
            is_cut_off: Arc::default(),
            settings,
        }
    }

    /// Whether requests are taken; else the refusal.
    fn taking(&self) -> Result<(), ApiError> {
        if self.draining.load(Ordering::Relaxed) { Err(draining()) } else { Ok(()) }
    }

    /// Takes no more requests; waits for the running ones, then ends those that are left.
    async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let all = self.slots.acquire_many(self.settings.max_queued);
        if tokio::time::timeout(self.settings.drain_timeout(), all).await.is_err() {
            let left =
                (self.settings.max_queued as usize).saturating_sub(self.slots.available_permits());
            tracing::warn!(requests = left, "still running after drain_timeout_ms; ending them");
            self.is_cut_off.store(true, Ordering::SeqCst);
            self.cut_off.send_replace(true);
        }
    }
}

/// Why a request is not taken, or ended, by a proxy that ends.
fn draining() -> ApiError {
    ApiError::unavailable("draining", "The gateway is shutting down.")
}

/// 503: the other gateway can't be asked now.
fn not_ready(reason: impl std::fmt::Display) -> ApiError {
    ApiError::unavailable("not_ready", format!("Not ready: {reason}; try again soon."))
}
