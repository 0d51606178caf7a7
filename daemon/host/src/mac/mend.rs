//! Making one setting of a Mac. All of it needs root but the open files.
//!
//! | repair | steps | still set after a reboot |
//! |---|---|---|
//! | MTU | ioctl; `networksetup -setMTU` | yes, in this network location |
//! | address | ioctl | no; a service of our own has it too |
//! | bridge | ioctl; a network service of the port's own, `networksetup` | the service is |
//! | wired limit | sysctl(3) | no: `/etc/sysctl.conf` is read before the GPU's names exist |
//! | Spotlight | `mdutil -i off`, per volume | yes, on that volume |
//! | power | `pmset -a`, per key | yes |
//! | updates | `softwareupdate --schedule off`; `defaults write`, per key | yes |
//! | clock | `systemsetup -setusingnetworktime on` | yes |
//! | open files | setrlimit(2), for this process and its children | no |
//!
//! What is so already is not set again. What was set is read again, because some tools end well
//! without an effect. FileVault and RDMA are only read: the one would need a credential, which is
//! never stored, and the other somebody in the recovery system.

mod link;
mod settings;

use tandem_policy::{Repair, invariant::Unknown};

use super::{
    answer::{complaint, start},
    system::Mac,
};
use crate::{
    MendError, limits,
    probes::{CommandOutput, Tool},
};

pub use link::SERVICE_PREFIX;

/// Makes one setting. Making it again does no harm, and changes nothing that is so already.
///
/// # Errors
/// The step that failed, why, what was done before it, and what to do.
pub fn mend(repair: &Repair, mac: &impl Mac) -> Result<(), MendError> {
    match repair {
        Repair::LinkMtu { link, mtu_bytes } => link::mtu(link, *mtu_bytes, mac),
        Repair::LinkAddress { link } => link::address(link, mac),
        Repair::LinkUnbridged { link } => link::unbridged(link, mac),
        Repair::WiredLimit { mib } => settings::wired_limit(*mib, mac),
        Repair::SpotlightOff { volumes } => settings::spotlight_off(volumes, mac),
        Repair::Power { key, value } => settings::power(key, *value, mac),
        Repair::AutomaticUpdatesOff => settings::automatic_updates_off(mac),
        Repair::OpenFiles { count } => limits::raise_open_files(*count),
        Repair::ClockSynchronised => settings::clock_synchronised(mac),
    }
}

/// One step that uses a tool.
struct Step<'a> {
    /// What it does, in words.
    what: &'a str,
    /// What of the setting is done before it.
    done: &'static str,
}

/// What is done before the first step.
const NOTHING: &str = "nothing was changed";

impl Step<'_> {
    /// Sets something by a tool whose exit code tells whether it did.
    fn set(&self, mac: &impl Mac, tool: &Tool) -> Result<(), MendError> {
        let output = self.run(mac, tool)?;
        complaint(&output).map_or(Ok(()), |complaint| Err(self.failed(tool, complaint)))
    }

    /// Sets something by a tool whose exit code tells nothing: what it said, for when there is no
    /// effect.
    fn try_set(&self, mac: &impl Mac, tool: &Tool) -> Result<String, MendError> {
        let CommandOutput { stdout, stderr, .. } = self.run(mac, tool)?;
        Ok(start(&format!("{stdout} {stderr}")))
    }

    fn run(&self, mac: &impl Mac, tool: &Tool) -> Result<CommandOutput, MendError> {
        if !mac.is_root() {
            return Err(MendError::NeedsRoot(self.what.into()));
        }
        mac.run(tool).map_err(|unknown| self.failed(tool, reason(unknown)))
    }

    /// What a reading found that the step needs.
    fn read<T>(&self, tool: &Tool, answer: Result<T, Unknown>) -> Result<T, MendError> {
        answer.map_err(|unknown| self.failed(tool, reason(unknown)))
    }

    fn failed(&self, tool: &Tool, reason: String) -> MendError {
        MendError::Step {
            step: self.what.into(),
            command: tool.to_string(),
            reason,
            done: self.done,
        }
    }
}

fn reason(unknown: Unknown) -> String {
    match unknown {
        Unknown::Failed(reason) | Unknown::Hung(reason) => reason,
        other => other.to_string(),
    }
}
