//! What a config asks that this machine can't give. Looked for by `tandem config check` only: a folder
//! or an address may come later, and a supervisor then says so itself.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
};

use nix::unistd::{Uid, User};
use tandem_evidence::Catalogue;

use super::{Config, Node, folder};

/// First port that anybody may listen on, where the system does not say otherwise.
const FREE_PORT_MIN: u16 = 1_024;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// With these nothing can serve here, one sentence each.
    pub problems: Vec<String>,
    /// What may be meant so.
    pub notes: Vec<String>,
}

impl Config {
    /// Looks at users, folders, memory and addresses of this machine.
    pub fn on_this_machine(&self) -> Findings {
        let mut found = Findings::default();
        let is_root = Uid::effective().is_root();
        self.look_for_user(is_root, &mut found);
        self.look_at_folders(&mut found);
        self.look_at_ports(is_root, free_port_min(), &mut found);
        self.look_at_addresses(&mut found);
        if let Ok(memory) = tandem_host::memory(u64::MAX) {
            self.compare_memory(memory.total_bytes >> 20, &mut found);
        }
        if !self.host.signatures.as_os_str().is_empty()
            && let Err(error) = Catalogue::load(&self.host.signatures)
        {
            let error = anyhow::Error::new(error);
            found.problems.push(format!("host.signatures can't be used: {error:#}"));
        }
        found
    }

    fn look_for_user(&self, is_root: bool, found: &mut Findings) {
        let name = &self.node.user;
        if name.is_empty() || matches!(User::from_name(name), Ok(Some(_))) {
            return;
        }
        let why = format!(
            "node.user is {name:?}, and this machine has no such user; make it, or set \
             node.user = \"\" to run gateway and ranks as the supervisor's own user"
        );
        // The package makes the default one, and a plain user's supervisor does not use it.
        if is_root && *name != Node::default().user {
            found.problems.push(why);
        } else {
            found.notes.push(why);
        }
    }

    fn look_at_folders(&self, found: &mut Findings) {
        for (key, path, is_own) in self.paths() {
            if !is_own {
                continue;
            }
            // A folder that is yet to be made is made in its nearest parent that there is.
            let there = path.ancestors().find_map(|at| Some((at, fs::metadata(at).ok()?)));
            if let Some((at, metadata)) = there
                && !metadata.is_dir()
            {
                found.problems.push(format!(
                    "{key} is {}, and {} is no folder; choose another, or remove that",
                    path.display(),
                    at.display()
                ));
            }
            if let Ok(real) = fs::canonicalize(path)
                && let Some(why) = folder::refusal(&real)
                && folder::refusal(path).is_none()
            {
                found
                    .problems
                    .push(format!("{key} is {} and leads elsewhere: it {why}", path.display()));
            }
        }
    }

    /// Gateway and ranks listen as `node.user`, or as who starts the supervisor.
    fn look_at_ports(&self, is_root: bool, free_port_min: u16, found: &mut Findings) {
        let children_are_root = is_root && matches!(self.node.user.as_str(), "" | "root");
        if children_are_root {
            return;
        }
        for (port, key, any_address) in self.ports_of_children() {
            // A Mac lets anybody have any port, on all addresses together.
            if port < free_port_min && !(cfg!(target_os = "macos") && any_address) {
                found.problems.push(format!(
                    "{key} has port {port}, which only root may listen on here, and neither gateway nor \
                     ranks are root; choose one of {free_port_min} or more"
                ));
            }
        }
    }

    fn ports_of_children(&self) -> Vec<(u16, String, bool)> {
        let listen = self.gateway.listen;
        let mut ports =
            vec![(listen.port(), "gateway.listen".to_owned(), listen.ip().is_unspecified())];
        if self.peer_listen().is_some() && self.own_ranks().contains(&0) {
            ports.push((self.gateway.peer_port, "gateway.peer_port".to_owned(), false));
        }
        if self.rank.len() > 1 {
            ports.push((self.engine.control_port, "engine.control_port".to_owned(), false));
            for rank in self.own_ranks() {
                let port = self.engine.ring_port_base.saturating_add(rank as u16);
                ports.push((port, format!("engine.ring_port_base plus {rank}"), false));
            }
        }
        ports
    }

    fn look_at_addresses(&self, found: &mut Findings) {
        let mut addresses = vec![("gateway.listen".to_owned(), self.gateway.listen.ip())];
        if !self.peer.is_empty() {
            addresses.push(("pair.listen".to_owned(), self.pair.listen.ip()));
        }
        for rank in self.own_ranks() {
            let address = self.rank.get(rank as usize).map(|rank| rank.address);
            addresses
                .extend(address.map(|address| (format!("the address of rank {rank}"), address)));
        }
        for (key, address) in addresses {
            if is_elsewhere(address) {
                found.notes.push(format!(
                    "{key} is {address}, which no interface of this machine has now; nothing can listen \
                     there until one has"
                ));
            }
        }
    }

    fn compare_memory(&self, total_mib: u64, found: &mut Findings) {
        for (key, mib) in [
            ("leak.reserve_mib", self.leak.reserve_mib),
            ("host.wired_limit_mib", self.host.wired_limit_mib),
        ] {
            if mib >= total_mib {
                found.problems.push(format!(
                    "{key} is {mib}; this machine has {total_mib} MiB of memory, so nothing could start"
                ));
            }
        }
    }
}

/// Whether no interface has that address. Binding a datagram socket to it sends nothing.
fn is_elsewhere(address: IpAddr) -> bool {
    let bound = UdpSocket::bind(SocketAddr::new(address, 0));
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// First port that a process without privileges may listen on.
fn free_port_min() -> u16 {
    // Linux says it here; nothing else has this file.
    let text = fs::read_to_string(Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FREE_PORT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(look: impl FnOnce(&mut Findings)) -> Vec<String> {
        let mut found = Findings::default();
        look(&mut found);
        found.problems
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let mut config = Config::default();
        for (user, is_root, expected) in [
            ("", true, (0, 0)),
            ("root", true, (0, 0)),
            ("nobody-of-that-name", true, (1, 0)),
            ("nobody-of-that-name", false, (0, 1)),
        ] {
            config.node.user = user.into();
            let mut found = Findings::default();
            config.look_for_user(is_root, &mut found);
            assert_eq!((found.problems.len(), found.notes.len()), expected, "{user} {is_root}");
        }
    }

    #[test]
    fn what_is_no_folder_and_what_leads_into_the_system_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        let mut config = Config::default();
        for (path, expected) in [
            (folder.path().join("made/later"), None),
            (file.clone(), Some("is no folder")),
            (file.join("beneath"), Some("is no folder")),
            ("/dev/null".into(), Some("is no folder")),
            (folder.path().join("link"), Some("not Tandem's alone")),
        ] {
            config.node.run_dir.clone_from(&path);
            config.node.state_dir = folder.path().join("state");
            let found = problems(|found| config.look_at_folders(found));
            assert_eq!(found.len(), usize::from(expected.is_some()), "{path:?}: {found:?}");
            assert!(
                found.iter().all(|told| told.contains(expected.unwrap())),
                "{path:?}: {found:?}"
            );
        }
    }

    #[test]
    fn a_port_that_only_root_may_have_is_refused_to_who_is_not() {
        let mut config = Config::default();
        config.gateway.listen = "127.0.0.1:80".parse().unwrap();
        config.engine.control_port = 90;
        for (user, is_root, port_min, expected) in [
            ("svc", true, 1_024, 2),
            ("svc", true, 85, 1),
            ("svc", true, 0, 0),
            ("", true, 1_024, 0),
            ("", false, 1_024, 2),
        ] {
            config.node.user = user.into();
            let found = problems(|found| config.look_at_ports(is_root, port_min, found));
            assert_eq!(found.len(), expected, "{user} {is_root} {port_min}: {found:?}");
        }
    }

    #[test]
    fn more_memory_than_there_is_is_refused_and_a_strange_address_told() {
        let mut config = Config::default();
        assert_eq!(problems(|found| config.compare_memory(8_192, found)), [""; 0]);
        config.leak.reserve_mib = 8_192;
        config.host.wired_limit_mib = 9_000;
        assert_eq!(problems(|found| config.compare_memory(8_192, found)).len(), 2);

        let mut found = Findings::default();
        // TEST-NET-3 (RFC 5737): nobody has it.
        config.gateway.listen = "203.0.113.7:8080".parse().unwrap();
        config.look_at_addresses(&mut found);
        assert_eq!((found.notes.len(), found.problems.len()), (1, 0), "{found:?}");
    }
}
