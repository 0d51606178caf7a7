//! Starting a child: its arguments, its whole environment, its user, its secret.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::{Uid, User};
use tandem_engine::settings::Backend;
use tandem_host::{Confinement, confine};
use tandem_policy::{
    gateway::Mode,
    pair::fabric::{Carrier, Devices},
};
use tandem_wire::Session;

use super::{
    child::Who,
    own_file::{Access, atomic_write},
    process_id::OwnProcess,
};
use crate::{
    config::{Config, children_dir},
    log,
};

/// Largest file that a child may write, in bytes: its output is cut at an eighth of that, so only one that writes
/// faster than it is read meets this, and loses what it writes until it was read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Most processes of the children's user, on Linux most threads: a gateway and eight ranks on the largest machine
/// have some thousand.
const PROCESSES_MAX: u64 = 4_096;

/// How glibc keeps memory in a rank; other C libraries ignore it. MLX's CPU back end allocates and
/// frees every intermediate array: without these, each large one is mapped, faulted in page by page
/// and unmapped again (half the time of a 2048-token prefill), and weights lie on small pages.
const GLIBC_TUNABLES: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:\
                              glibc.malloc.trim_threshold=1073741824:glibc.malloc.top_pad=67108864";

/// The environment of every rank that is the same on all machines; what differs is where a rank is and
/// how many cores it has.
pub fn rank_environment() -> [(&'static str, &'static str); 1] {
    [("GLIBC_TUNABLES", GLIBC_TUNABLES)]
}

/// Which of the two models a child belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// The one of all nodes.
    Together,
    /// The fallback.
    Alone,
}

impl Served {
    pub(super) const ALL: [Self; 2] = [Self::Together, Self::Alone];

    /// The config that its children read: a copy of what the supervisor accepted, because the file it
    /// came from may be changed, or broken, at any time.
    pub(super) fn config_path(self, run_dir: &Path) -> PathBuf {
        run_dir.join(match self {
            Self::Together => "config.toml",
            Self::Alone => "alone.toml",
        })
    }

    /// The number that a rank is started with: the fallback's gang is one rank.
    pub(super) const fn rank(self, number: u32) -> u32 {
        match self {
            Self::Together => number,
            Self::Alone => 0,
        }
    }
}

/// What all children are started with.
#[derive(Clone)]
pub(super) struct Launcher {
    /// This executable.
    pub(super) executable: PathBuf,
    /// Hash of the key of the gateway's canaries.
    pub(super) canary_key_hash: String,
    /// Hash of the key of the other nodes' gateways.
    pub(super) peer_key_hash: String,
    pub(super) run_dir: PathBuf,
    pub(super) user: Option<User>,
}

impl Launcher {
    /// The command of a rank, complete but for its standard input.
    pub(super) fn rank(&self, config: &Config, number: u32, served: Served) -> Command {
        let number = served.rank(number);
        let mut command = self.command(config, &["rank", "--rank", &number.to_string()], served);
        let threads = threads_per_rank(config.own_ranks().len()).to_string();
        command
            .env("OPENBLAS_NUM_THREADS", &threads)
            .env("OMP_NUM_THREADS", &threads)
            .envs(rank_environment());
        let fast_synch = if config.engine.metal_fast_synch { "1" } else { "0" };
        command.env("MLX_METAL_FAST_SYNCH", fast_synch);
        self.place_in_group(config, number, &mut command);
        command
    }

    /// Tells a rank its place in the group, in the environment that MLX reads.
    ///
    /// Every rank but 0 of a JACCL group connects to the coordinator, four times within 15 s, and gives
    /// up; rank 0 listens there only while it forms the group. That rank 0 is there by then needs no
    /// waiting here: other nodes start their ranks only once rank 0 listens on its control port, and no
    /// rank begins to form the group before all have met on the control channel, after which each is in
    /// MLX's `init` within milliseconds.
    fn place_in_group(&self, config: &Config, number: u32, command: &mut Command) {
        let Some(first) = config.rank.first().filter(|_| config.rank.len() > 1) else { return };
        command.env("MLX_RANK", number.to_string());
        if config.engine.backend == Backend::Jaccl {
            let coordinator = SocketAddr::new(first.address, config.engine.coordinator_port);
            command.env("MLX_IBV_DEVICES", self.devices_path());
            command.env("MLX_JACCL_COORDINATOR", coordinator.to_string());
        }
    }

    /// The command of a gateway.
    pub(super) fn gateway(&self, config: &Config, mode: Mode) -> Command {
        let served = if mode == Mode::Alone { Served::Alone } else { Served::Together };
        let mut command = self.command(config, &["gateway"], served);
        command.arg("--mode").arg(match mode {
            Mode::Serve => "serve",
            Mode::Proxy => "proxy",
            Mode::Alone => "alone",
        });
        command.env(tandem_gateway::CANARY_KEY_HASH, &self.canary_key_hash);
        command.env(tandem_gateway::PEER_KEY_HASH, &self.peer_key_hash);
        command
    }

    /// The command that computes what a model needs of memory: of the config that is in force, whose
    /// fallback's own copy is only written when it is started.
    pub(super) fn fit(&self, config: &Config, served: Served) -> Command {
        let mut command = self.command(config, &["model", "fit", "--json"], Served::Together);
        if served == Served::Alone {
            command.arg("--fallback");
        }
        command
    }

    fn command(&self, config: &Config, role: &[&str], served: Served) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(role).arg("--config").arg(served.config_path(&self.run_dir));
        // The whole environment: what this process was started with says nothing about what a
        // child needs, and launchd's differs from a shell's.
        command.env_clear();
        let home = children_dir(&self.run_dir);
        command.env("PATH", "/usr/bin:/bin").env("HOME", &home);
        command.env("RUST_LOG", log::filter(config.node.log_level)).env(log::SUPERVISED, "1");
        command.current_dir(home).process_group(0);
        give_least_rights(&mut command, self.user.as_ref());
        command
    }

    /// The user that the children run as.
    pub(super) fn children_uid(&self) -> u32 {
        self.user.as_ref().map_or_else(Uid::effective, |user| user.uid).as_raw()
    }

    /// Writes the config that children read.
    pub(super) fn write_config(&self, config: &Config, served: Served) -> io::Result<()> {
        let text = toml::to_string(config).map_err(io::Error::other)?;
        // Paths and hashes of keys: for the children, and nobody else.
        let group = self.user.as_ref().map(|user| user.gid);
        let access = Access { mode: 0o640, owner: None, group };
        atomic_write(&served.config_path(&self.run_dir), text.as_bytes(), access)
    }

    fn devices_path(&self) -> PathBuf {
        self.run_dir.join("devices.json")
    }

    /// Writes what MLX finds the other ranks by: nothing for a ring, whose connections ranks make themselves.
    pub(super) fn write_group(&self, carrier: &Carrier) -> io::Result<()> {
        match carrier {
            Carrier::Ring { .. } => Ok(()),
            Carrier::Jaccl { devices } => self.write_devices(devices),
        }
    }

    /// Writes which RDMA device leads from each rank to each other, in MLX's form:
    /// `[[null,"rdma_en5"],["rdma_en4",null]]`.
    fn write_devices(&self, devices: &Devices) -> io::Result<()> {
        atomic_write(&self.devices_path(), &serde_json::to_vec(devices)?, ADDRESSES)
    }

    /// Notes a child's process id, its epoch and when it began, so that a later supervisor finds it and no other.
    pub(super) fn note_pid(&self, who: Who, own: &OwnProcess, epoch: u64) -> io::Result<()> {
        let pid = own.id.get();
        let started = tandem_host::identity(pid)?.started;
        let note = format!("{pid} {epoch} {started}\n");
        atomic_write(&pid_path(&self.run_dir, who), note.as_bytes(), Access::OWN)
    }
}

/// Where the ranks find each other is no secret.
const ADDRESSES: Access = Access { mode: 0o644, owner: None, group: None };

/// Has a command start a child that can do no more than it needs.
pub(super) fn give_least_rights(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        // With a user given, the standard library also drops the supplementary groups.
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    // Whoever else is this user starts processes too, unless it is the children's own.
    let processes_max = user.map(|_| PROCESSES_MAX);
    confine(command, Confinement { file_bytes_max: FILE_BYTES_MAX, processes_max });
}

/// Where a child's process id is noted.
pub(super) fn pid_path(run_dir: &Path, who: Who) -> PathBuf {
    run_dir.join(format!("{}.pid", who.name()))
}

/// Threads of a rank's linear algebra: ranks that share cores must not fight for them.
fn threads_per_rank(ranks: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / ranks.max(1)).max(1)
}

/// The session of a new epoch, with a key from the system's random source.
pub(super) fn new_session(epoch: u64) -> io::Result<Session> {
    Ok(Session { epoch, control_key: random_hex()? })
}

/// 32 random bytes in hex.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn launcher(run_dir: &Path) -> Launcher {
        Launcher {
            executable: "/bin/tandem".into(),
            canary_key_hash: "sha256:0".into(),
            peer_key_hash: "sha256:1".into(),
            run_dir: run_dir.into(),
            user: None,
        }
    }

    fn arguments(command: &Command) -> Vec<&str> {
        command.get_args().map(|argument| argument.to_str().unwrap()).collect()
    }

    #[test]
    fn a_rank_gets_its_place_in_the_ring_and_nothing_secret() {
        let config = Config::default();
        let command = launcher(Path::new("/run/t")).rank(&config, 1, Served::Together);
        assert_eq!(arguments(&command), ["rank", "--rank", "1", "--config", "/run/t/config.toml"]);
        let environment = environment(&command);
        assert_eq!(environment["MLX_RANK"], "1");
        assert!(environment["OPENBLAS_NUM_THREADS"].parse::<u32>().unwrap() >= 1);
        assert!(!environment.keys().any(|key| key.contains("KEY")), "{environment:?}");
    }

    fn environment(command: &Command) -> BTreeMap<String, String> {
        let pair = |(key, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
            Some((key.to_str()?.to_owned(), value?.to_str()?.to_owned()))
        };
        command.get_envs().filter_map(pair).collect()
    }

    #[test]
    fn a_rank_of_a_fabric_gets_the_devices_and_where_rank_0_waits() {
        let mut config = Config::default();
        config.engine.backend = Backend::Jaccl;
        config.rank[0].address = "169.254.7.1".parse().unwrap();
        let launcher = launcher(Path::new("/run/t"));
        for number in [0, 1] {
            let environment = environment(&launcher.rank(&config, number, Served::Together));
            assert_eq!(environment["MLX_RANK"], number.to_string());
            assert_eq!(environment["MLX_IBV_DEVICES"], "/run/t/devices.json");
            assert_eq!(environment["MLX_JACCL_COORDINATOR"], "169.254.7.1:52311");
            // It would prefer JACCL's own ring, whose all_gather returns wrong data.
            assert!(!environment.contains_key("MLX_JACCL_RING"));
        }
    }

    #[test]
    fn fast_synchronisation_is_off_unless_the_config_asks_for_it() {
        let mut config = Config::default();
        for (is_on, expected) in [(false, "0"), (true, "1")] {
            config.engine.metal_fast_synch = is_on;
            let command = launcher(Path::new("/run/t")).rank(&config, 0, Served::Together);
            assert_eq!(environment(&command)["MLX_METAL_FAST_SYNCH"], expected);
        }
    }

    #[test]
    fn devices_are_in_the_form_that_mlx_reads() {
        let folder = tempfile::tempdir().unwrap();
        let device = |name: &str| Some(name.to_owned());
        let devices = vec![vec![None, device("rdma_en5")], vec![device("rdma_en4"), None]];
        let launcher = launcher(folder.path());
        launcher.write_group(&Carrier::Jaccl { devices }).unwrap();
        let text = std::fs::read_to_string(folder.path().join("devices.json")).unwrap();
        assert_eq!(text, r#"[[null,"rdma_en5"],["rdma_en4",null]]"#);
    }

    #[test]
    fn the_fallback_is_one_rank_that_forms_no_ring() {
        let launcher = launcher(Path::new("/run/t"));
        let alone = Config::default().alone();
        let command = launcher.rank(&alone, 1, Served::Alone);
        assert_eq!(arguments(&command), ["rank", "--rank", "0", "--config", "/run/t/alone.toml"]);
        assert!(!command.get_envs().any(|(key, _)| key == "MLX_RANK"));
        let command = launcher.gateway(&alone, Mode::Alone);
        let expected = ["gateway", "--config", "/run/t/alone.toml", "--mode", "alone"];
        assert_eq!(arguments(&command), expected);
    }

    #[test]
    fn every_epoch_has_its_own_key() {
        let (one, two) = (new_session(1).unwrap(), new_session(2).unwrap());
        assert_eq!(one.control_key.len(), 64);
        assert_ne!(one.control_key, two.control_key);
        assert!(!format!("{one:?}").contains(&one.control_key), "keys stay out of logs");
    }
}
