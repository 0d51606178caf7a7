//! The seam between what is decided about a Mac and the Mac itself.
//!
//! Reading and mending are written against these two traits, so they are tested everywhere: on
//! recorded answers, with tools that fail or are late. The real ones start tools and call the kernel.

use std::{io, net::Ipv4Addr, path::PathBuf};

use crate::probes::{Answer, CommandOutput, Tool};

/// What runs a Mac's tools.
pub trait Runner {
    /// Runs one within its bounds, and waits for it.
    ///
    /// # Errors
    /// Why it said nothing: it is not there, said too much or was late.
    fn run(&self, tool: &Tool) -> Answer<CommandOutput>;
}

/// A Mac: its tools, and what is asked of the kernel itself. Setting needs root everywhere; no setting
/// made through the kernel outlives the boot. Errors are the system's.
pub trait Mac: Runner {
    /// Whether this process may set anything.
    fn is_root(&self) -> bool;

    /// An interface's MTU in use, in bytes (`SIOCGIFMTU`). ENXIO if there is no such interface.
    fn mtu_bytes(&self, link: &str) -> io::Result<u32>;

    /// Sets an interface's MTU until the next boot (`SIOCSIFMTU`).
    fn set_mtu(&self, link: &str, mtu_bytes: u32) -> io::Result<()>;

    /// An interface's hardware address; empty if it has none.
    fn hardware_address(&self, link: &str) -> io::Result<Vec<u8>>;

    /// An interface's IPv4 addresses (`getifaddrs`); none for one that is not there.
    fn ipv4_addresses(&self, link: &str) -> io::Result<Vec<Ipv4Addr>>;

    /// Adds an address to an interface until the next boot (`SIOCAIFADDR`).
    fn add_address(&self, link: &str, address: Ipv4Addr, prefix_bits: u8) -> io::Result<()>;

    /// The bridge that an interface is in (`BRDGGIFS` of each).
    fn bridge_of(&self, link: &str) -> io::Result<Option<String>>;

    /// Takes an interface out of a bridge until something puts it back (`BRDGDEL`).
    fn leave_bridge(&self, bridge: &str, link: &str) -> io::Result<()>;

    /// A text of sysctl(3). ENOENT if there is no such name.
    fn sysctl_text(&self, name: &str) -> io::Result<String>;

    /// A number of sysctl(3) that has 32 bits.
    fn sysctl_i32(&self, name: &str) -> io::Result<i32>;

    /// A number of sysctl(3) that has 64 bits.
    fn sysctl_u64(&self, name: &str) -> io::Result<u64>;

    /// Sets a number of sysctl(3) until the next boot.
    fn set_sysctl_i32(&self, name: &str, value: i32) -> io::Result<()>;

    /// Whether the I/O registry has a GPU.
    fn has_gpu(&self) -> io::Result<bool>;

    /// This executable, without symbolic links: by that the firewall knows it.
    fn executable(&self) -> io::Result<PathBuf>;
}
