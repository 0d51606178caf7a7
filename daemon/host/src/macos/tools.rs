//! The real Mac behind [`crate::mac::system`]: tools are started, and the kernel is called.

use std::{
    io,
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::unistd::geteuid;
use tandem_policy::invariant::Unknown;

use super::{bridge, interface, registry, sysctl};
use crate::{
    link_address,
    mac::{
        gate::Gate,
        system::{Mac, Runner},
    },
    probes::{Answer, CommandOutput, Tool, command},
};

/// Shared by all of this process: whoever asks, a driver that hangs is not asked again.
static GATE: Gate = Gate::new();

/// A Mac whose tools share one time limit.
pub(super) struct System {
    deadline: Instant,
}

impl System {
    /// All tools together may take this long.
    pub(super) fn within(timeout_ms: u64) -> Self {
        Self { deadline: Instant::now() + Duration::from_millis(timeout_ms) }
    }
}

impl Runner for System {
    fn run(&self, tool: &Tool) -> Answer<CommandOutput> {
        GATE.run(tool, || {
            // Another tool may have been waited for.
            let left = self.deadline.saturating_duration_since(Instant::now());
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            if left_ms == 0 {
                return Err(Unknown::Failed(format!("no time was left to run `{tool}`")));
            }
            command(&tool.clone().within(tool.timeout_ms.min(left_ms)))
        })
    }
}

impl Mac for System {
    fn is_root(&self) -> bool {
        geteuid().is_root()
    }

    fn mtu_bytes(&self, link: &str) -> io::Result<u32> {
        interface::mtu_bytes(link)
    }

    fn set_mtu(&self, link: &str, mtu_bytes: u32) -> io::Result<()> {
        interface::set_mtu(link, mtu_bytes)
    }

    fn hardware_address(&self, link: &str) -> io::Result<Vec<u8>> {
        interface::hardware_address(link)
    }

    fn ipv4_addresses(&self, link: &str) -> io::Result<Vec<Ipv4Addr>> {
        link_address::ipv4(link)
    }

    fn add_address(&self, link: &str, address: Ipv4Addr, prefix_bits: u8) -> io::Result<()> {
        interface::add_address(link, address, prefix_bits)
    }

    fn bridge_of(&self, link: &str) -> io::Result<Option<String>> {
        bridge::bridge_of(link)
    }

    fn leave_bridge(&self, bridge: &str, link: &str) -> io::Result<()> {
        bridge::remove(bridge, link)
    }

    fn sysctl_text(&self, name: &str) -> io::Result<String> {
        sysctl::text(name)
    }

    fn sysctl_i32(&self, name: &str) -> io::Result<i32> {
        sysctl::i32(name)
    }

    fn sysctl_u64(&self, name: &str) -> io::Result<u64> {
        sysctl::u64(name)
    }

    fn set_sysctl_i32(&self, name: &str, value: i32) -> io::Result<()> {
        sysctl::set_i32(name, value)
    }

    fn has_gpu(&self) -> io::Result<bool> {
        registry::gpu_is_there()
    }

    fn executable(&self) -> io::Result<PathBuf> {
        std::env::current_exe()?.canonicalize()
    }
}
