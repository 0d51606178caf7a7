//! What macOS says, read into types, and what it means for the host's invariants.
//!
//! ```text
//!   invariant ─▶ read ─┐                       ┌─▶ one file a source: a tool's answer, or the
//!   repair ────▶ mend ─┼─▶ tools ─▶ Runner ────┘   bytes of a socket or call, as types
//!   link ports ▶ ports ┘   └─────▶ Mac: the kernel
//! ```
//!
//! All of it is pure but for the two traits of [`system`], behind which the tools run, so it is
//! tested everywhere on forms recorded from Macs. An answer in a form that is not known is an
//! [`Unparsed`], never a guess.
//!
//! What is read must be whole: a reader that stopped at a limit has to say so, and not hand the
//! first part here, because a list that was cut can look like a shorter list.

pub mod accelerator;
mod answer;
pub mod defaults;
pub mod fdesetup;
pub mod firewall;
pub mod firewall_rules;
pub mod gate;
pub mod hardware_ports;
pub mod ifconfig;
pub mod kernel_event;
pub mod launchctl;
pub mod layout;
pub mod link_change;
pub mod mdutil;
pub mod memory;
pub mod mend;
pub mod network_setup;
pub mod os_version;
pub mod pmset;
pub mod ports;
pub mod process;
pub mod rdma;
pub mod read;
pub mod route;
pub mod services;
pub mod sysctl_value;
pub mod system;
pub mod thunderbolt;
pub mod time_sync;
pub mod tools;
mod unparsed;
pub mod vm_stat;

pub use unparsed::{SEEN_BYTES_MAX, TEXT_BYTES_MAX, Unparsed};
