//! Who shows a code in this network, by multicast DNS (RFC 6762) and DNS-SD (RFC 6763).
//!
//! What is found is a suggestion to an operator and never more: anyone in the network can announce
//! anything. Nothing is joined by itself, and no address of the config comes from here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mdns_sd::{DaemonEvent, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::introduction::is_node_name;

/// The service of a node that shows a code.
const SERVICE: &str = "_tandem-pair._tcp.local.";

/// Key of the TXT record that has the node's name.
const NODE_KEY: &str = "node";

/// How long to look: answers come within half a second, and a lost packet is asked for again after
/// one (RFC 6762, section 5.2).
pub const BROWSE: Duration = Duration::from_secs(3);

/// Most nodes that are listed; more than a few are noise or malice.
const FOUND_MAX: usize = 16;

/// Most addresses of one node that are listed.
const ADDRESSES_MAX: usize = 8;

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// Multicast is not possible here, as far as this machine can tell.
#[derive(Debug, thiserror::Error)]
#[error("multicast DNS can't be used here ({0}); `tandem pair join HOST` works without it")]
pub struct DiscoveryError(String);

impl From<mdns_sd::Error> for DiscoveryError {
    fn from(error: mdns_sd::Error) -> Self {
        Self(error.to_string())
    }
}

/// The announcement of a node that shows a code; it is taken back when this is dropped.
pub struct Advert {
    daemon: ServiceDaemon,
    events: mdns_sd::Receiver<DaemonEvent>,
    service: String,
}

impl Advert {
    /// Announces this node. With an unspecified address it is announced at all that it has.
    ///
    /// # Errors
    ///
    /// There is no socket for multicast DNS.
    pub fn start(node: &str, listen: SocketAddr) -> Result<Self, DiscoveryError> {
        // A host name of our own: the machine's usual one is announced by the system.
        let host = format!("tandem-{}.local.", node.replace('.', "-"));
        let addresses: Vec<IpAddr> =
            Some(listen.ip()).filter(|ip| !ip.is_unspecified()).into_iter().collect();
        let service = ServiceInfo::new(
            SERVICE,
            node,
            &host,
            &addresses[..],
            listen.port(),
            &[(NODE_KEY, node)][..],
        )?;
        let service = if addresses.is_empty() { service.enable_addr_auto() } else { service };
        let name = service.get_fullname().to_owned();
        let daemon = ServiceDaemon::new()?;
        let events = daemon.monitor()?;
        daemon.register(service)?;
        Ok(Self { daemon, events, service: name })
    }

    /// Waits until the announcement was sent; `false` if it was not in that time, which is so where
    /// no interface carries multicast. Names are probed for 0.75 s first (RFC 6762, section 8.1).
    pub fn is_sent(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            match self.events.recv_deadline(deadline) {
                Ok(DaemonEvent::Announce(..)) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Advert {
    fn drop(&mut self) {
        // Without a goodbye others would list this node for two more minutes.
        if let Ok(status) = self.daemon.unregister(&self.service) {
            let _ = status.recv_timeout(GOODBYE);
        }
        stop(&self.daemon);
    }
}

fn stop(daemon: &ServiceDaemon) {
    if let Ok(status) = daemon.shutdown() {
        let _ = status.recv_timeout(GOODBYE);
    }
}

/// A node that says it shows a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How it calls itself; [`is_node_name`] holds.
    pub node: String,
    /// What `tandem pair join` takes as its host: IPv4 addresses first, the port with each.
    pub hosts: Vec<String>,
}

/// Looks for nodes that show a code, for this long.
///
/// # Errors
///
/// There is no socket for multicast DNS.
pub fn browse(within: Duration) -> Result<Vec<Found>, DiscoveryError> {
    let deadline = Instant::now() + within;
    let daemon = ServiceDaemon::new()?;
    let events = daemon.browse(SERVICE)?;
    let mut found = BTreeMap::new();
    while let Ok(event) = events.recv_deadline(deadline) {
        match event {
            ServiceEvent::ServiceResolved(service) if found.len() < FOUND_MAX => {
                if let Some(node) = read(&service) {
                    found.insert(service.fullname.clone(), node);
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                found.remove(&name);
            }
            _ => {}
        }
    }
    stop(&daemon);
    Ok(found.into_values().collect())
}

/// What is worth showing of an announcement; `None` if its name could not be a node's, or it has no
/// address.
fn read(service: &ResolvedService) -> Option<Found> {
    let node = service.get_property_val_str(NODE_KEY).filter(|name| is_node_name(name))?;
    // Its own loopback would be the reader's.
    let mut addresses: Vec<_> =
        service.addresses.iter().filter(|address| !address.is_loopback()).collect();
    addresses.sort_by_key(|address| (!address.is_ipv4(), address.to_string()));
    let hosts: Vec<_> = addresses
        .into_iter()
        .take(ADDRESSES_MAX)
        .map(|address| match address.is_ipv4() {
            true => format!("{address}:{}", service.port),
            false => format!("[{address}]:{}", service.port),
        })
        .collect();
    (!hosts.is_empty()).then(|| Found { node: node.to_owned(), hosts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(node: &str, addresses: &str) -> Option<Found> {
        let service =
            ServiceInfo::new(SERVICE, "x", "x.local.", addresses, 52391, &[(NODE_KEY, node)][..]);
        read(&service.unwrap().as_resolved_service())
    }

    #[test]
    fn what_is_announced_is_shown_as_join_takes_it_and_a_false_name_not_at_all() {
        let found = announced("left", "2001:db8::1,10.0.0.2,127.0.0.1,10.0.0.1").unwrap();
        assert_eq!(found.node, "left");
        assert_eq!(found.hosts, ["10.0.0.1:52391", "10.0.0.2:52391", "[2001:db8::1]:52391"]);
        assert_eq!(announced("left", "127.0.0.1"), None);
        for node in ["", "\u{1b}[2J", "left right", "left;reboot", &"x".repeat(64)] {
            assert_eq!(announced(node, "10.0.0.1"), None, "{node:?}");
        }
    }

    #[test]
    fn a_node_that_shows_a_code_is_found_while_it_does() {
        let node = format!("test-{}", std::process::id());
        let sought = |found: &[Found]| found.iter().any(|found| found.node == node);
        let advert = Advert::start(&node, SocketAddr::from(([0, 0, 0, 0], 52391)));
        // Where no interface carries multicast there is nothing to be seen, and it is said so.
        let Some(advert) = advert.ok().filter(|advert| advert.is_sent(BROWSE)) else {
            eprintln!("not shown: multicast is not possible here");
            return;
        };
        assert!(sought(&browse(BROWSE).unwrap()));
        drop(advert);
        assert!(!sought(&browse(Duration::from_millis(500)).unwrap()));
    }
}
