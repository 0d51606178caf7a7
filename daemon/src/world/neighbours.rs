//! The other nodes: what this one tells them, what it hears, and the two secrets that cross: the key
//! of an epoch and the key of the gateway of the node with rank 0.

use std::{io, net::SocketAddr, path::PathBuf};

use anyhow::Context;
use nix::unistd::User;
use tandem_peer::{
    identity::Identity,
    link::{Link, LinkSetup, PeerPlace, Secrets},
    manifest::Manifest,
};
use tandem_policy::pair::{NodeReport, PeerSeen};
use tandem_wire::Session;
use tracing::warn;

use super::{
    child::Shared,
    launch::new_session,
    own_file::{Access, atomic_write},
};
use crate::config::Config;

/// The nodes that share this one's ranks.
pub(super) struct Neighbours {
    link: Link,
    /// Whether rank 0 runs here, so that this node makes the keys.
    leads: bool,
    leader: String,
    /// Of the last epoch that was begun here.
    session: Option<Session>,
    gateway_key: String,
    /// Digest of the manifest that the link was told last.
    told_manifest: String,
    upstream: Upstream,
}

/// What a proxying gateway is told.
struct Upstream {
    path: PathBuf,
    /// Where the gateway of the node with rank 0 listens for other nodes' gateways.
    address: SocketAddr,
    user: Option<User>,
    /// The key that was last written.
    written: Option<String>,
}

impl Neighbours {
    /// Begins to hear and to be heard; `None` if the config names no other machine. To be called
    /// within a tokio runtime.
    pub(super) async fn start(
        config: &Config,
        shared: &Shared,
        user: Option<&User>,
        gateway_key: &str,
    ) -> anyhow::Result<Option<Self>> {
        if config.peer.is_empty() {
            return Ok(None);
        }
        let folder = config.peer_folder();
        let identity = Identity::load_or_make(&folder, &config.node.name)
            .with_context(|| format!("can't use the key in {}", folder.display()))?;
        let place = |peer: &crate::config::Peer| PeerPlace {
            name: peer.name.clone(),
            addresses: peer.addresses.clone(),
        };
        let setup = LinkSetup {
            node: config.node.name.clone(),
            listen: config.pair.listen,
            peers: config.peer.iter().map(place).collect(),
            report_ms: config.pair.report_ms,
            silence_timeout_ms: config.pair.silence_timeout_ms,
        };
        let wake = shared.clone();
        let clock = || tandem_host::now().boot_ms;
        let link =
            Link::start(setup, identity, &folder, clock, move || wake.change(|_| {})).await?;
        let policy = config.policy_setup();
        Ok(Some(Self {
            link,
            leads: policy.leads(),
            leader: policy.leader().to_owned(),
            session: None,
            gateway_key: gateway_key.to_owned(),
            told_manifest: String::new(),
            upstream: Upstream {
                path: config.upstream_file(),
                address: config.peer_listen().context("there is no rank 0")?,
                user: user.cloned(),
                written: None,
            },
        }))
    }

    /// What is seen of the others.
    pub(super) fn seen(&self) -> Vec<PeerSeen> {
        self.link.seen()
    }

    /// Tells the others the files of the model, for when theirs differ.
    pub(super) fn set_manifest(&mut self, manifest: Option<&Manifest>) {
        let is_news = |manifest: &&Manifest| manifest.digest() != self.told_manifest;
        if let Some(manifest) = manifest.filter(is_news) {
            manifest.digest().clone_into(&mut self.told_manifest);
            self.link.set_manifest(manifest.clone());
        }
    }

    /// Tells the others this node's account, and what only the node with rank 0 knows.
    pub(super) fn tell(&mut self, report: &NodeReport) {
        let secrets = if self.leads {
            let epoch = report.start.as_ref().map(|start| start.epoch);
            let is_of_epoch = |session: &&Session| Some(session.epoch) == epoch;
            Secrets {
                session: self.session.as_ref().filter(is_of_epoch).cloned(),
                gateway_key: Some(self.gateway_key.clone()),
            }
        } else {
            Secrets::default()
        };
        self.link.tell(report.clone(), secrets);
        self.learn_upstream();
    }

    /// The session of an epoch: made on the node with rank 0, heard on the others.
    pub(super) fn session(&mut self, epoch: u64) -> io::Result<Session> {
        if let Some(session) = self.session.as_ref().filter(|session| session.epoch == epoch) {
            return Ok(session.clone());
        }
        let session = if self.leads {
            new_session(epoch)?
        } else {
            let heard = self.link.secrets(&self.leader).and_then(|secrets| secrets.session);
            heard.filter(|session| session.epoch == epoch).ok_or_else(|| {
                io::Error::other(format!("{} has not told the key of epoch {epoch}", self.leader))
            })?
        };
        self.session = Some(session.clone());
        Ok(session)
    }

    /// Tells a proxying gateway where to go, whenever that changes.
    fn learn_upstream(&mut self) {
        if self.leads {
            return;
        }
        let key = self.link.secrets(&self.leader).and_then(|secrets| secrets.gateway_key);
        let Some(key) = key.filter(|key| self.upstream.written.as_ref() != Some(key)) else {
            return;
        };
        match self.upstream.write(&key) {
            Ok(()) => self.upstream.written = Some(key),
            Err(error) => warn!("the gateway can't be told where rank 0 is: {error}"),
        }
    }
}

impl Upstream {
    fn write(&self, key: &str) -> io::Result<()> {
        let text = serde_json::json!({ "address": self.address, "key": key }).to_string();
        let (owner, group) = self.user.as_ref().map(|user| (user.uid, user.gid)).unzip();
        atomic_write(&self.path, text.as_bytes(), Access { mode: 0o600, owner, group })
    }
}
