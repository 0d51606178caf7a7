//! Checks of values that hold without looking at the machine.

use std::collections::{BTreeMap, BTreeSet};

use tandem_policy::pair::NODES_MAX;

use super::{Config, LOG_FILES_MAX};

/// Longest path of a Unix socket that every platform takes (104 bytes with its zero on macOS).
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Most ranks: MLX's rings and JACCL meshes are that small, and the engine keeps as many ports.
const RANKS_MAX: usize = 8;

/// Most ways to one machine: each is asked all the time.
const ADDRESSES_MAX: usize = 4;

/// Most that `node.log_file_max_mib` can be: what an editor still opens.
const LOG_FILE_MIB_MAX: u32 = 1_024;

impl Config {
    /// Everything wrong with the values, one sentence each; empty if they are fine.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.engine.validate().err());
        problems.extend(self.gateway.validate().err());
        self.check_folders(&mut problems);
        self.check_names(&mut problems);
        self.check_limits(&mut problems);
        self.check_node(&mut problems);
        self.check_ranks(&mut problems);
        self.check_fabric(&mut problems);
        self.check_peers(&mut problems);
        self.check_supervise(&mut problems);
        self.host.problems(&mut problems);
        self.leak.problems(&mut problems);
        self.canary.problems(&mut problems);
        self.reboot.problems(&mut problems);
        self.check_ports(&mut problems);
        problems
    }

    fn check_node(&self, problems: &mut Vec<String>) {
        if self.node.name.is_empty() {
            problems.push("node.name is empty; give this machine a name".into());
        }
        for (key, value, most) in [
            ("log_file_max_mib", self.node.log_file_max_mib, LOG_FILE_MIB_MAX),
            ("log_files_max", self.node.log_files_max, LOG_FILES_MAX),
        ] {
            if !(1..=most).contains(&value) {
                problems.push(format!("node.{key} is {value}; it must be from 1 to {most}"));
            }
        }
        let socket = self.rank_socket(RANKS_MAX as u32 - 1);
        let length = socket.as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            problems.push(format!(
                "node.run_dir is too long: a socket in it would be {length} bytes long and the \
                 system takes {SOCKET_PATH_BYTES_MAX}; choose a shorter folder"
            ));
        }
    }

    fn check_ranks(&self, problems: &mut Vec<String>) {
        let count = self.rank.len();
        if !(1..=RANKS_MAX).contains(&count) {
            problems.push(format!(
                "there are {count} [[rank]] sections; there must be 1 to {RANKS_MAX}"
            ));
        }
        for (index, rank) in self.rank.iter().enumerate() {
            let is_known =
                rank.node == self.node.name || self.peer.iter().any(|peer| peer.name == rank.node);
            if !is_known {
                problems.push(format!(
                    "rank {index} has node = \"{}\", which is neither node.name (\"{}\") nor the \
                     name of a [[peer]]",
                    rank.node, self.node.name
                ));
            }
            if !self.peer.is_empty() && rank.address.is_loopback() {
                problems.push(format!(
                    "rank {index} has address = \"{}\", which the other machines can't reach",
                    rank.address
                ));
            }
            if !(1..=1024).contains(&rank.weight) {
                problems.push(format!(
                    "rank {index} has weight = {}; it must be from 1 to 1024",
                    rank.weight
                ));
            }
            let is_broadcast =
                matches!(rank.address, std::net::IpAddr::V4(address) if address.is_broadcast());
            if rank.address.is_unspecified() || rank.address.is_multicast() || is_broadcast {
                problems.push(format!(
                    "rank {index} has address = \"{}\"; it must be an address of its machine, such \
                     as 127.0.0.1",
                    rank.address
                ));
            }
            // MLX takes what stands before the first colon for the address.
            if count > 1 && !rank.address.is_ipv4() {
                problems.push(format!(
                    "rank {index} has address = \"{}\"; ranks meet over IPv4, so it must be an IPv4 \
                     address",
                    rank.address
                ));
            }
            let is_elsewhere =
                |other: &super::Rank| other.address == rank.address && other.node != rank.node;
            if let Some(other) = self.rank.iter().take(index).find(|other| is_elsewhere(other))
                && !rank.address.is_loopback()
            {
                problems.push(format!(
                    "rank {index} has address = \"{}\", which is that of \"{}\" too; each machine has \
                     its own",
                    rank.address, other.node
                ));
            }
        }
    }

    /// What JACCL asks of ranks and ports. Whether cables and devices are there is seen while running.
    fn check_fabric(&self, problems: &mut Vec<String>) {
        if !self.uses_fabric() {
            return;
        }
        for node in self.nodes().into_iter().filter(|node| node.ranks.len() > 1) {
            problems.push(format!(
                "engine.backend is \"jaccl\" and \"{}\" has {} [[rank]] sections; an RDMA device joins \
                 two machines, so each must have one, or engine.backend must be \"ring\"",
                node.name,
                node.ranks.len()
            ));
        }
        if self.host.link.is_empty() {
            problems.push(
                "engine.backend is \"jaccl\" and host.link is empty; it must be the interface of the \
                 Thunderbolt port that joins the machines, such as en5"
                    .into(),
            );
        }
    }

    fn check_peers(&self, problems: &mut Vec<String>) {
        let mut names = BTreeSet::from([self.node.name.as_str()]);
        for peer in &self.peer {
            if peer.name.is_empty() || !names.insert(&peer.name) {
                problems.push(format!(
                    "a [[peer]] has name = \"{}\"; each machine needs a name of its own",
                    peer.name
                ));
            }
            if !(1..=ADDRESSES_MAX).contains(&peer.addresses.len()) {
                problems.push(format!(
                    "peer \"{}\" has {} addresses; it must have 1 to {ADDRESSES_MAX}",
                    peer.name,
                    peer.addresses.len()
                ));
            }
            for address in &peer.addresses {
                if address.ip().is_unspecified()
                    || address.ip().is_multicast()
                    || address.port() == 0
                {
                    problems.push(format!(
                        "peer \"{}\" has the address {address}; it must be one that the machine is \
                         reached at, such as 192.168.1.12:52390",
                        peer.name
                    ));
                }
            }
            if !self.rank.iter().any(|rank| rank.node == peer.name) {
                problems.push(format!(
                    "peer \"{}\" has no [[rank]]; give it one or remove it",
                    peer.name
                ));
            }
        }
        if self.peer.len() >= NODES_MAX {
            problems.push(format!(
                "there are {} [[peer]] sections; at most {NODES_MAX} machines, this one included, can \
                 serve together",
                self.peer.len()
            ));
        }
        if !self.rank.is_empty() && self.own_ranks().is_empty() {
            problems.push(format!(
                "no [[rank]] has node = \"{}\" (node.name), so nothing would run here",
                self.node.name
            ));
        }
        if self.fallback.is_set() && self.peer.is_empty() {
            problems.push(
                "fallback.path is set, but there is no [[peer]] whose absence it would be for"
                    .into(),
            );
        }
        self.pair.problems(problems);
    }

    fn check_supervise(&self, problems: &mut Vec<String>) {
        let s = &self.supervise;
        if !s.status_listen.ip().is_loopback() {
            problems.push(format!(
                "supervise.status_listen is {}; it must be on loopback, such as 127.0.0.1:52380, \
                 because the status asks for no key",
                s.status_listen
            ));
        }
        let hour_ms = 3_600_000;
        for (key, value, low, high) in [
            ("backoff_min_ms", s.backoff_min_ms, 10, 60_000),
            ("backoff_max_ms", s.backoff_max_ms, 10, hour_ms),
            ("stable_after_ms", s.stable_after_ms, 1_000, 24 * hour_ms),
            ("restarts_max", s.restarts_max.into(), 1, 1_000),
            ("restart_window_ms", s.restart_window_ms, 1_000, 24 * hour_ms),
            ("start_timeout_ms", s.start_timeout_ms, 1_000, 2 * hour_ms),
            ("fabric_starts_max", s.fabric_starts_max.into(), 1, 1_000),
            ("fabric_failures_max", s.fabric_failures_max.into(), 1, 1_000),
            ("fabric_timeout_ms", s.fabric_timeout_ms, 1_000, 24 * hour_ms),
            ("silence_timeout_ms", s.silence_timeout_ms, 1_000, hour_ms),
            ("stall_timeout_ms", s.stall_timeout_ms, 1_000, 24 * hour_ms),
            ("gateway_timeout_ms", s.gateway_timeout_ms, 1_000, hour_ms),
            ("retune_raise_after_ms", s.retune_raise_after_ms, 1_000, 8_760 * hour_ms),
            ("unload_timeout_ms", s.unload_timeout_ms, 1_000, hour_ms),
            ("drain_timeout_ms", s.drain_timeout_ms, 0, hour_ms),
        ] {
            if !(low..=high).contains(&value) {
                problems
                    .push(format!("supervise.{key} is {value}; it must be from {low} to {high}"));
            }
        }
        if s.backoff_min_ms > s.backoff_max_ms {
            problems.push(format!(
                "supervise.backoff_min_ms is {}, more than backoff_max_ms ({})",
                s.backoff_min_ms, s.backoff_max_ms
            ));
        }
        if s.drain_timeout_ms < self.gateway.drain_timeout_ms {
            problems.push(format!(
                "supervise.drain_timeout_ms is {}; it must be at least gateway.drain_timeout_ms \
                 ({}), or the gateway is killed while it still drains",
                s.drain_timeout_ms, self.gateway.drain_timeout_ms
            ));
        }
    }

    /// What listens on this machine: no port may be had twice, whatever the address.
    fn check_ports(&self, problems: &mut Vec<String>) {
        let ring = u32::from(self.engine.ring_port_base);
        let mut owners: BTreeMap<u32, String> = BTreeMap::new();
        let mut claims = vec![
            (u32::from(self.gateway.listen.port()), "gateway.listen".to_owned()),
            (u32::from(self.supervise.status_listen.port()), "supervise.status_listen".to_owned()),
        ];
        if !self.peer.is_empty() {
            claims.push((self.pair.listen.port().into(), "pair.listen".to_owned()));
            claims.push((self.pair.pairing_port.into(), "pair.pairing_port".to_owned()));
            claims.push((self.gateway.peer_port.into(), "gateway.peer_port".to_owned()));
        }
        if self.rank.len() > 1 {
            claims.push((self.engine.control_port.into(), "engine.control_port".to_owned()));
            if self.uses_fabric() {
                let port = self.engine.coordinator_port.into();
                claims.push((port, "engine.coordinator_port".to_owned()));
            }
            for rank in self.own_ranks() {
                claims.push((ring + rank, format!("engine.ring_port_base plus {rank}")));
            }
        }
        for (port, key) in claims {
            if port == 0 {
                problems.push(format!("{key} has port 0; give it a fixed port"));
            } else if let Some(other) = owners.get(&port) {
                problems.push(format!("{key} has port {port}, but so has {other}; change one"));
            } else {
                owners.insert(port, key);
            }
        }
    }
}
