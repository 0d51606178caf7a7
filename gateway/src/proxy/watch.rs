//! Looks after the other gateway while somebody waits for it: a node that lost its power, or a
//! link that was pulled, says nothing, and a request may rightly be silent for minutes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Proxy, health};

/// Pause between two questions.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// No answer for this long means that it is lost. Longer than a burst of work keeps a live gateway
/// from answering, and about as long as the supervisors wait for each other.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// Never ends.
pub(super) async fn watch(proxy: &Proxy) {
    let mut silent_since: HashMap<SocketAddr, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let mut silent = HashMap::new();
        for upstream in proxy.upstream.known().await {
            // One receiver for each request that waits.
            if upstream.losses.receiver_count() == 0 {
                continue;
            }
            let asked = Instant::now();
            if health::ask(proxy, &upstream).await.is_ok() {
                continue;
            }
            let since = silent_since.get(&upstream.address).copied().unwrap_or(asked);
            if since.elapsed() < LOST_AFTER {
                silent.insert(upstream.address, since);
            } else {
                let address = upstream.address;
                tracing::warn!(%address, "the node with rank 0 is silent; ending what waits for it");
                upstream.losses.send_modify(|losses| *losses += 1);
            }
        }
        silent_since = silent;
    }
}
