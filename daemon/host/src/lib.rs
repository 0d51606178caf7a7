//! The only door to the operating system.
//!
//! ```text
//!   read(invariant) ─▶ Found, or why it is Unknown        LinkWatch ─▶ a link or address changed
//!   mend(repair)    ─▶ set, or a MendError that says      exited    ─▶ a process ended
//!   memory()        ─▶ what is locked, and by whom        Probes    ─▶ what a costly probe found
//! ```
//!
//! The platform is chosen here and nowhere else. What a platform does not have is
//! `Unknown::NotOnThisPlatform`, never a made-up value. Everything is read in the namespaces of the
//! calling thread, so two hosts can be two network namespaces of one kernel.

mod clock;
mod confine;
mod disk;
mod end;
mod identity;
mod limits;
mod link_address;
pub mod mac;
mod mend_error;
mod os;
mod priority;
pub mod probes;
mod reboot;
mod terminal;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

#[cfg(not(target_os = "linux"))]
mod macos;
#[cfg(not(target_os = "linux"))]
use macos as platform;

pub use clock::{boot_id, now};
pub use confine::{Confinement, confine};
pub use end::await_end;
pub use identity::Identity;
pub use mend_error::MendError;
pub use os::os_version;
pub use platform::{
    LinkWatch, accelerators, command_line, exited, identity, is_running, memory, memory_kills,
    mend, read, release_start_memory, thunderbolt_ports,
};
pub use priority::put_first;
pub use probes::Probes;
pub use reboot::{RebootStep, reboot, reboot_step};
pub use terminal::columns;
