//! A node with a key and a folder of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tandem_peer::{
    identity::{Fingerprint, Identity, Pins},
    link::{Link, LinkSetup, PeerPlace, Secrets},
};
use tandem_policy::pair::{NodeReport, PathSeen, PeerSeen};

/// Far over what anything here takes, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) listen: SocketAddr,
    root: tempfile::TempDir,
}

/// A link that runs, and how often it said that something changed.
pub(crate) struct Running {
    pub(crate) link: Link,
    pub(crate) changes: Arc<AtomicU64>,
    name: String,
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_make(&root.path().join("peer"), name).unwrap();
        // Every address of this machine, so that there are several ways here.
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self { name: name.into(), identity, listen, root }
    }

    pub(crate) fn folder(&self) -> std::path::PathBuf {
        self.root.path().join("peer")
    }

    pub(crate) fn pin(&self, name: &str, fingerprint: Fingerprint) {
        Pins::pin(&self.folder(), name, fingerprint).unwrap();
    }

    pub(crate) async fn start(&self, peers: &[(&str, &[SocketAddr])]) -> Running {
        self.start_with(peers, 50, 5_000).await
    }

    pub(crate) async fn start_with(
        &self,
        peers: &[(&str, &[SocketAddr])],
        report_ms: u64,
        silence_timeout_ms: u64,
    ) -> Running {
        let place = |(name, addresses): &(&str, &[SocketAddr])| PeerPlace {
            name: (*name).into(),
            addresses: addresses.to_vec(),
        };
        let setup = LinkSetup {
            node: self.name.clone(),
            listen: self.listen,
            peers: peers.iter().map(place).collect(),
            report_ms,
            silence_timeout_ms,
        };
        let changes = Arc::new(AtomicU64::new(0));
        let (count, start) = (changes.clone(), Instant::now());
        let boot_ms = move || start.elapsed().as_millis() as u64;
        let on_change = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let folder: &Path = &self.folder();
        let link =
            Link::start(setup, self.identity.clone(), folder, boot_ms, on_change).await.unwrap();
        Running { link, changes, name: self.name.clone() }
    }
}

/// Two nodes that trust each other.
pub(crate) fn pair() -> (Node, Node) {
    let (a, b) = (Node::new("a"), Node::new("b"));
    a.pin("b", b.identity.fingerprint());
    b.pin("a", a.identity.fingerprint());
    (a, b)
}

impl Running {
    pub(crate) fn says(&self, phase: &str) {
        self.link.tell(report(&self.name, phase), Secrets::default());
    }

    /// Its port, once it listens.
    pub(crate) async fn port(&self) -> u16 {
        until("it listens", || self.link.listening().is_some()).await;
        self.link.listening().unwrap().port()
    }

    pub(crate) fn peer(&self, name: &str) -> PeerSeen {
        self.link.seen().into_iter().find(|peer| peer.node == name).unwrap()
    }

    pub(crate) fn path(&self, name: &str, index: usize) -> PathSeen {
        self.peer(name).paths[index].clone()
    }

    pub(crate) fn phase(&self, name: &str) -> Option<String> {
        self.peer(name).report.map(|(report, _)| report.phase)
    }

    pub(crate) async fn hears(&self, name: &str, phase: &str) {
        let what = format!("{} hears {phase:?} of {name}", self.name);
        until(&what, || self.phase(name).as_deref() == Some(phase)).await;
    }

    /// Waits until this path is down for a reason with this text.
    pub(crate) async fn problem(&self, name: &str, index: usize, text: &str) {
        let what = format!("a problem with {text:?}, but {:?}", self.path(name, index));
        until(&what, || {
            let path = self.path(name, index);
            !path.is_up && path.problem.contains(text)
        })
        .await;
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn report(node: &str, phase: &str) -> NodeReport {
    let json = serde_json::json!({
        "node": node, "version": "0", "os": "test", "boot": "boot", "uptime_ms": 1, "plan": [],
        "manifest": null, "refusal": null, "epoch": 0, "phase": phase, "start": null, "ranks": [],
        "is_alone": false, "proof": null, "is_draining": false, "is_held": false, "reboot": null,
        "would_veto": null, "faults": [],
    });
    serde_json::from_value(json).unwrap()
}
