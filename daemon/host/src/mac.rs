//! What macOS says, read into types, and what it means for the host's invariants.
//!
//! Every file here reads one source: the answer of one command, or the bytes of one socket or one
//! call. They are pure, so they are tested everywhere on forms recorded from Macs; running the commands is
//! another module's work. An answer in a form that is not known is an [`Unparsed`], never a guess.
//!
//! What is read must be whole: a reader that stopped at a limit has to say so, and not hand the
//! first part here, because a list that was cut can look like a shorter list.

pub mod accelerator;
pub mod defaults;
pub mod fdesetup;
pub mod firewall;
pub mod hardware_ports;
pub mod ifconfig;
pub mod kernel_event;
pub mod launchctl;
pub mod layout;
pub mod link_change;
pub mod mdutil;
pub mod memory;
pub mod network_setup;
pub mod os_version;
pub mod pmset;
pub mod process;
pub mod rdma;
pub mod route;
pub mod sysctl_value;
pub mod thunderbolt;
pub mod time_sync;
mod unparsed;
pub mod vm_stat;

pub use unparsed::{SEEN_BYTES_MAX, TEXT_BYTES_MAX, Unparsed};
