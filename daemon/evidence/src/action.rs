//! What a signature asks for.

use serde::{Deserialize, Serialize};

/// The smallest action that can help, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: it only informs, or it is easily mistaken for another fault.
    None,
    /// Set the host's settings again; the engine goes on, or starts again after.
    Reassert,
    /// Lower a limit, such as the prefill step, then restart.
    Retune,
    /// End all ranks in order and start the next epoch.
    Restart,
    /// Reboot: the state that is bad lies in the kernel or a driver.
    Reboot,
    /// Wait for an operator: the config or the hardware is wrong, and trying again changes nothing.
    Hold,
}

impl Action {
    /// All, smallest first.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Reassert, Self::Retune, Self::Restart, Self::Reboot, Self::Hold];

    /// Its name in the catalogue.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reassert => "reassert",
            Self::Retune => "retune",
            Self::Restart => "restart",
            Self::Reboot => "reboot",
            Self::Hold => "hold",
        }
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}
