//! The sections of `tandem.toml` that policy uses. All times in milliseconds.

mod check;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::invariant::{Invariant, Mode};

/// `[supervise]`: keeping gateway and ranks alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Supervise {
    /// Address of the status endpoint; loopback only.
    pub status_listen: SocketAddr,
    /// Pause before the first restart of something that failed.
    pub backoff_min_ms: u64,
    /// The pause doubles with every failure, up to this.
    pub backoff_max_ms: u64,
    /// Serving this long without a failure sets the pause back to the least.
    pub stable_after_ms: u64,
    /// Most restarts of the ranks in one window; one more and the next rung is climbed.
    pub restarts_max: u32,
    /// Length of that window.
    pub restart_window_ms: u64,
    /// Most initialisations of an RDMA fabric in one boot; TCP rings are not counted.
    pub fabric_starts_max: u32,
    /// Most failures of the RDMA fabric in one boot before epochs are carried by the ring.
    pub fabric_failures_max: u32,
    /// Longest time that an epoch waits for the RDMA fabric before it is carried by the ring.
    pub fabric_timeout_ms: u64,
    /// Longest time from the start of the ranks until all are ready.
    pub start_timeout_ms: u64,
    /// Longest time a ready rank may leave the supervisor's questions unanswered.
    pub silence_timeout_ms: u64,
    /// Longest time without a finished step while a rank has work.
    pub stall_timeout_ms: u64,
    /// Longest time the gateway may leave the supervisor's questions unanswered.
    pub gateway_timeout_ms: u64,
    /// Longest time a rank gets to unload by itself before it is killed.
    pub unload_timeout_ms: u64,
    /// Longest time the gateway gets to end running requests after SIGTERM.
    pub drain_timeout_ms: u64,
    /// A lowered prefill step is doubled again after serving this long with it.
    pub retune_raise_after_ms: u64,
}

/// `[host]`: what the host must be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// The Thunderbolt port's interface, such as `en5`; empty if there is none to look after.
    pub link: String,
    /// MTU of that interface, in bytes.
    pub link_mtu_bytes: u32,
    /// Memory that the GPU may wire, in MiB (`iogpu.wired_limit_mb`); 0 leaves the system's default.
    pub wired_limit_mib: u64,
    /// Least free disk space where the ledger and the models are, in MiB.
    pub disk_free_min_mib: u64,
    /// Least number of files that a process may open.
    pub open_files_min: u64,
    /// Least version of macOS.
    pub os_version_min: String,
    /// Folders that crash reports appear in; empty takes the platform's.
    pub report_dirs: Vec<PathBuf>,
    /// A catalogue of crash signatures in place of the built-in one; empty takes that.
    pub signatures: PathBuf,
    /// How often cheap facts are read; changes that the system announces are seen at once.
    pub poll_ms: u64,
    /// How often costly probes run, such as those that start a tool.
    pub slow_poll_ms: u64,
    /// Longest time of one costly probe.
    pub probe_timeout_ms: u64,
    /// Most drifts of one invariant in one window; one more and it is left alone for a while.
    pub flap_max: u32,
    /// Length of that window, and of the pause.
    pub flap_window_ms: u64,
}

/// `[leak]`: when wired memory without an owner counts as leaked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leak {
    /// Least unexplained wired memory that counts, in MiB.
    pub threshold_mib: u64,
    /// The same in percent of all memory; the larger of the two counts.
    pub threshold_percent: u64,
    /// Processes with a footprint of at least this explain wired memory, in MiB.
    pub owner_min_mib: u64,
    /// How long ranks must be gone before memory is judged.
    pub settle_ms: u64,
    /// Samples in a row that must agree, and the pause between two.
    pub samples: u32,
    /// Pause between two samples.
    pub sample_ms: u64,
    /// Most difference between the largest and the least of them, in MiB: a leak is flat.
    pub spread_mib: u64,
    /// A suspected leak without evidence of a crash is confirmed after this.
    pub confirm_after_ms: u64,
    /// Memory that must stay free beside the engine, in MiB.
    pub reserve_mib: u64,
}

/// `[canary]`: the request that proves serving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Canary {
    /// Longest time without tokens of any request before one is asked for.
    pub period_ms: u64,
    /// Longest time of one.
    pub timeout_ms: u64,
    /// Tokens that it asks for.
    pub max_tokens: u32,
    /// Failures in a row that are a fault.
    pub failures_max: u32,
}

/// `[reboot]`: the last rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reboot {
    /// Whether the supervisor may reboot by itself.
    pub automatic: bool,
    /// Program and arguments; empty takes the platform's own way, which is none on Linux.
    pub command: Vec<String>,
    /// Most automatic reboots in 24 hours.
    pub per_day_max: u32,
    /// Least time between two; it doubles with every one of the last 24 hours.
    pub interval_min_ms: u64,
    /// Least time since boot before an automatic reboot.
    pub uptime_min_ms: u64,
    /// The same cause again within this time since boot is not mended by another reboot.
    pub latch_ms: u64,
    /// How long all other nodes must be silent before this one reboots alone for a fault of its own.
    pub alone_after_ms: u64,
    /// Longest time from a reboot until tokens come again on all its nodes.
    pub return_timeout_ms: u64,
}

/// `[pair]`: how nodes hear each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pair {
    /// Address that the other nodes' supervisors reach this one at.
    pub listen: SocketAddr,
    /// Port that `tandem pair init` waits on.
    pub pairing_port: u16,
    /// How often each node is asked for its report, on every path.
    pub report_ms: u64,
    /// A path without an answer for this long is down; a node without one on any path is lost.
    pub silence_timeout_ms: u64,
}

/// `[invariants]`: what is done about each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Invariants(pub BTreeMap<Invariant, Mode>);

impl Invariants {
    /// What is done about one; what the config leaves out has its default.
    pub fn mode(&self, invariant: Invariant) -> Mode {
        self.0.get(&invariant).copied().unwrap_or_else(|| invariant.row().mode)
    }
}

impl Default for Invariants {
    fn default() -> Self {
        Self(Invariant::ALL.iter().map(|i| (*i, i.row().mode)).collect())
    }
}

impl Default for Supervise {
    fn default() -> Self {
        Self {
            status_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 52380)),
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            stable_after_ms: 300_000,
            restarts_max: 10,
            restart_window_ms: 3_600_000,
            fabric_starts_max: 10,
            fabric_failures_max: 3,
            fabric_timeout_ms: 120_000,
            start_timeout_ms: 600_000,
            silence_timeout_ms: 30_000,
            stall_timeout_ms: 660_000,
            gateway_timeout_ms: 30_000,
            unload_timeout_ms: 30_000,
            drain_timeout_ms: 35_000,
            retune_raise_after_ms: 86_400_000,
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self {
            link: String::new(),
            link_mtu_bytes: 9_000,
            wired_limit_mib: 0,
            disk_free_min_mib: 2_048,
            open_files_min: 1_024,
            os_version_min: "26.2".into(),
            report_dirs: Vec::new(),
            signatures: PathBuf::new(),
            poll_ms: 5_000,
            slow_poll_ms: 300_000,
            probe_timeout_ms: 5_000,
            flap_max: 10,
            flap_window_ms: 60_000,
        }
    }
}

impl Default for Leak {
    fn default() -> Self {
        Self {
            threshold_mib: 16_384,
            threshold_percent: 5,
            owner_min_mib: 1_024,
            settle_ms: 60_000,
            samples: 5,
            sample_ms: 5_000,
            spread_mib: 1_024,
            confirm_after_ms: 600_000,
            reserve_mib: 1_024,
        }
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self { period_ms: 60_000, timeout_ms: 120_000, max_tokens: 8, failures_max: 2 }
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 52390)),
            pairing_port: 52391,
            report_ms: 500,
            silence_timeout_ms: 3_000,
        }
    }
}

impl Default for Reboot {
    fn default() -> Self {
        Self {
            automatic: true,
            command: Vec::new(),
            per_day_max: 3,
            interval_min_ms: 1_800_000,
            uptime_min_ms: 600_000,
            latch_ms: 900_000,
            alone_after_ms: 120_000,
            return_timeout_ms: 1_800_000,
        }
    }
}
