//! Two gateways of one pair: one that serves, and one that proxies to it.

use std::{
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::json;
use tandem_gateway::{GatewayError, ProxySetup, Settings, hash_api_key};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::server::{Client, Gateway, PATIENCE, Says};

/// The key of the pair.
pub(crate) const PAIR_KEY: &str = "pair-key";

/// A proxying gateway under test. Asking it means asking the proxy.
pub(crate) struct Proxy {
    client: Client,
    pub(crate) upstream_file: PathBuf,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), GatewayError>>,
    _dir: tempfile::TempDir,
}

impl Deref for Proxy {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Proxy {
    /// Starts one that knows no other gateway.
    pub(crate) async fn start(adjust: impl FnOnce(&mut ProxySetup)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream_file = dir.path().join("upstream.json");
        let mut setup = ProxySetup {
            settings: Settings::default(),
            upstream_file: upstream_file.clone(),
            canary_key_hash: None,
            node: "second".into(),
            records: false,
        };
        adjust(&mut setup);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client { address: listener.local_addr().unwrap() };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(tandem_gateway::run_proxy_on(listener, setup, shutdown));
        Self { client, upstream_file, stop: Some(stop), task, _dir: dir }
    }

    /// Tells it where the other gateway is.
    pub(crate) fn point_at(&self, address: SocketAddr, key: &str) {
        replace(&self.upstream_file, &json!({"address": address, "key": key}).to_string());
    }

    /// As SIGTERM does.
    pub(crate) fn begin_shutdown(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn ended(self) {
        let end = tokio::time::timeout(PATIENCE, self.task).await;
        end.expect("the proxy does not end").unwrap().unwrap();
    }
}

/// Writes a file as the supervisor does: whole or not at all.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// An address of this machine that nobody listens on, and nobody else will: its port is below those
/// that systems give out, and each test process has its own few.
pub(crate) fn free_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 8 + TAKEN.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + (number % 20_000) as u16));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Starts a serving gateway that other nodes may come in to, at the address that it gives.
pub(crate) async fn serving(
    says: Says<'_>,
    token_budget: Option<usize>,
    key: &str,
) -> (Gateway, SocketAddr) {
    let peer_listen = free_address();
    let gateway = Gateway::start_as(says, token_budget, |setup| {
        setup.peer_listen = Some(peer_listen);
        setup.peer_key_hash = Some(hash_api_key(key));
    })
    .await;
    (gateway, peer_listen)
}

/// Starts both and waits until the proxy is ready.
pub(crate) async fn pair(
    says: Says<'_>,
    token_budget: Option<usize>,
    adjust: impl FnOnce(&mut ProxySetup),
) -> (Gateway, Proxy) {
    let (gateway, peer_listen) = serving(says, token_budget, PAIR_KEY).await;
    let proxy = Proxy::start(adjust).await;
    proxy.point_at(peer_listen, PAIR_KEY);
    proxy.until_health(200).await;
    (gateway, proxy)
}
