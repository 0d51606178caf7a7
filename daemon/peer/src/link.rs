//! How nodes hear each other: every node asks every other one on every configured path, again and
//! again, and each question and each answer carries the newest account of who sends it.
//!
//! ```text
//!             Ask(own account) ─────────▶            one path = one TLS connection, dialled by the
//!   dialler                               listener   one that asks; the other node dials its own
//!             ◀───────── Answer(own account)
//! ```
//!
//! Nothing is queued and nothing waits for another path: each carries what is newest when its turn
//! comes, and the receiver drops what is older than what it knows (`heard`). A path is up while it
//! answers; which paths are, and what the other node said last, is all that policy is told.
//! The protocol is described in `docs/peer-protocol.md`.

mod admission;
mod answer;
mod board;
mod dial;
mod heard;
mod listen;
mod manifest;
mod message;
mod telling;
mod throughput;
mod tls;
mod trouble;
mod trust;

use std::{collections::BTreeSet, fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tandem_policy::pair::{NODES_MAX, NodeReport, PeerSeen};
use tokio::task::JoinSet;

use crate::identity::Identity;
use board::{Board, Parts};
pub(crate) use dial::connect;
use listen::Listening;
pub use manifest::DIFFERENCES_MAX;

pub use message::{PROTOCOL_VERSION, Secrets};
use telling::Telling;
use trust::Trust;

/// Most ways to one node.
pub const ADDRESSES_MAX: usize = 4;

/// What the config says about the other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSetup {
    /// This node's name.
    pub node: String,
    /// Where the others reach it.
    pub listen: SocketAddr,
    /// The others.
    pub peers: Vec<PeerPlace>,
    /// How often each is asked, in milliseconds.
    pub report_ms: u64,
    /// A path without an answer for this long is down, in milliseconds.
    pub silence_timeout_ms: u64,
}

/// Another node, and the ways to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPlace {
    /// Its name in the config, which is what its key is pinned for.
    pub name: String,
    /// Where it is reached; at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
}

/// Why there is no link. Nothing that can pass is among these: an address that can't be listened on
/// or a file that can't be read is tried again for ever.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The setup contradicts itself.
    #[error("the other nodes can't be heard by this config: {0}")]
    Setup(String),
    /// The system has no random numbers.
    #[error("can't make a random number: {0}")]
    Random(getrandom::Error),
}

/// All connections of this node. They end when it is dropped.
pub struct Link {
    board: Arc<Board>,
    listening: Arc<Listening>,
    _tasks: JoinSet<()>,
}

impl Link {
    /// Starts listening and dialling, on the current tokio runtime.
    ///
    /// `folder` is where [`crate::identity::Pins`] are. `boot_ms` tells the milliseconds since this
    /// machine's boot. `on_change` is called whenever something is heard that policy should look at
    /// at once; it must not block, and nothing is lost if it does nothing.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn start(
        setup: LinkSetup,
        identity: Identity,
        folder: &Path,
        boot_ms: impl Fn() -> u64 + Send + Sync + 'static,
        on_change: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, LinkError> {
        check(&setup).map_err(LinkError::Setup)?;
        let nodes = setup.peers.iter().map(|peer| peer.name.clone()).collect();
        let parts = Parts {
            node: setup.node.clone(),
            report: Duration::from_millis(setup.report_ms),
            silence: Duration::from_millis(setup.silence_timeout_ms),
            telling: Telling::new(instance()?),
            trust: Arc::new(Trust::new(folder, nodes)),
            on_change: Box::new(on_change),
            boot_ms: Box::new(boot_ms),
        };
        let board = Arc::new(Board::new(parts, &setup.peers));
        board.trust.read().await;
        board.follow_pins();
        let listening = Listening::new(board.clone(), identity.clone(), setup.listen);
        let listening = Arc::new(listening);
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_pins(board.clone()));
        tasks.spawn(listening.clone().keep());
        for peer in setup.peers {
            for address in peer.addresses {
                let (board, identity, node) = (board.clone(), identity.clone(), peer.name.clone());
                tasks.spawn(dial::keep(dial::Path { board, identity, node, address }));
            }
        }
        Ok(Self { board, listening, _tasks: tasks })
    }

    /// From now on tells this: at once on every path if it says something new, and again every
    /// `report_ms`. To be called each turn, also with what was told before: how long ago that was is
    /// told too, so that a supervisor that hangs is not taken for one that is well.
    pub fn tell(&self, report: NodeReport, secrets: Secrets) {
        self.board.telling.tell(report, secrets);
    }

    /// The other nodes, in the config's order.
    pub fn seen(&self) -> Vec<PeerSeen> {
        self.board.seen()
    }

    /// The newest secrets of a node. They are as old as its report.
    pub fn secrets(&self, node: &str) -> Option<Secrets> {
        self.board.secrets(node)
    }

    /// Sets the model's files here, which the other nodes may ask for where the digests in the
    /// reports differ.
    pub fn set_manifest(&self, manifest: crate::manifest::Manifest) {
        self.board.telling.set_manifest(manifest);
    }

    /// Has the pins read at once. They are read again every second anyway.
    pub fn repin(&self) {
        self.board.trust.repin();
    }

    /// Where this node listens; absent while it can't.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.listening.state().ok()
    }

    /// Why the other nodes can't reach this one, or can't be known; absent if all is well.
    pub fn problem(&self) -> Option<String> {
        self.listening.state().err().or_else(|| self.board.trust.problem())
    }

    /// How many inbound connections ended by something that a paired node does not do.
    pub fn refused(&self) -> u64 {
        self.listening.troubles.count()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("listening", &self.listening.state()).finish_non_exhaustive()
    }
}

async fn follow_pins(board: Arc<Board>) {
    loop {
        board.trust.reread().await;
        board.follow_pins();
    }
}

/// 128 random bits: no two instances ever have the same.
fn instance() -> Result<String, LinkError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(LinkError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn check(setup: &LinkSetup) -> Result<(), String> {
    if setup.peers.len() >= NODES_MAX {
        return Err(format!("{} other nodes; at most {}", setup.peers.len(), NODES_MAX - 1));
    }
    let mut names = BTreeSet::from([setup.node.as_str()]);
    for peer in &setup.peers {
        if !names.insert(&peer.name) {
            return Err(format!("there are two nodes with the name {:?}", peer.name));
        }
        let distinct: BTreeSet<_> = peer.addresses.iter().collect();
        if peer.addresses.len() > ADDRESSES_MAX || distinct.len() < peer.addresses.len() {
            return Err(format!(
                "{} must have at most {ADDRESSES_MAX} addresses, all different",
                peer.name
            ));
        }
    }
    if setup.report_ms == 0 || setup.silence_timeout_ms <= setup.report_ms {
        return Err("silence_timeout_ms must be over report_ms, and that over 0".into());
    }
    Ok(())
}
