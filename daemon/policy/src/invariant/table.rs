//! The table: one row an invariant.

use super::{Invariant, Mode, Severity};

/// What is fixed about one invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name in config, status and ledger.
    pub name: &'static str,
    /// What holds, in words.
    pub needs: &'static str,
    /// What is done about it unless the config says otherwise.
    pub mode: Mode,
    /// What it means for serving.
    pub severity: Severity,
    /// Whether what the supervisor sets is still set after a reboot.
    pub survives_reboot: bool,
    /// Whether reading it starts a tool, so that it is read rarely.
    pub is_slow: bool,
    /// What an operator does when the supervisor can't mend it.
    pub remedy: &'static str,
}

impl Invariant {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 20] = [
        Self::LinkMtu,
        Self::LinkAddress,
        Self::LinkUnbridged,
        Self::RdmaEnabled,
        Self::RdmaActive,
        Self::WiredLimit,
        Self::GpuUsable,
        Self::DiskSpace,
        Self::OpenFiles,
        Self::OsVersion,
        Self::UnattendedBoot,
        Self::RestartAfterPowerLoss,
        Self::SleepOff,
        Self::DiskSleepOff,
        Self::PowerNapOff,
        Self::LowPowerOff,
        Self::SpotlightOff,
        Self::AutomaticUpdatesOff,
        Self::ClockSynchronised,
        Self::FirewallOpen,
    ];

    /// Its row.
    pub const fn row(self) -> Row {
        let row = |name, needs, remedy| Row {
            name,
            needs,
            mode: Mode::Enforce,
            severity: Severity::Degrades,
            survives_reboot: false,
            is_slow: false,
            remedy,
        };
        let _ = row;
        Row {
            name: "x",
            needs: "",
            mode: Mode::Enforce,
            severity: Severity::Blocks,
            survives_reboot: false,
            is_slow: false,
            remedy: "",
        }
    }
}
