//! The table: one row an invariant.

use super::{
    Invariant,
    Mode::{self, Enforce, Observe},
    Severity::{self, Blocks, Degrades},
};

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
    /// Whether what is set, by the supervisor or by an operator, is still set after a reboot.
    pub survives_reboot: bool,
    /// Whether reading it starts a tool, so that it is read rarely.
    pub is_slow: bool,
    /// What an operator does when the supervisor can't mend it.
    pub remedy: &'static str,
}

impl Row {
    const fn new(
        name: &'static str,
        mode: Mode,
        severity: Severity,
        needs: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { name, needs, mode, severity, survives_reboot: false, is_slow: false, remedy }
    }

    const fn surviving_reboot(self) -> Self {
        Self { survives_reboot: true, ..self }
    }

    const fn slow(self) -> Self {
        Self { is_slow: true, ..self }
    }
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
        match self {
            Self::LinkMtu => LINK_MTU,
            Self::LinkAddress => LINK_ADDRESS,
            Self::LinkUnbridged => LINK_UNBRIDGED,
            Self::RdmaEnabled => RDMA_ENABLED,
            Self::RdmaActive => RDMA_ACTIVE,
            Self::WiredLimit => WIRED_LIMIT,
            Self::GpuUsable => GPU_USABLE,
            Self::DiskSpace => DISK_SPACE,
            Self::OpenFiles => OPEN_FILES,
            Self::OsVersion => OS_VERSION,
            Self::UnattendedBoot => UNATTENDED_BOOT,
            Self::RestartAfterPowerLoss => RESTART_AFTER_POWER_LOSS,
            Self::SleepOff => SLEEP_OFF,
            Self::DiskSleepOff => DISK_SLEEP_OFF,
            Self::PowerNapOff => POWER_NAP_OFF,
            Self::LowPowerOff => LOW_POWER_OFF,
            Self::SpotlightOff => SPOTLIGHT_OFF,
            Self::AutomaticUpdatesOff => AUTOMATIC_UPDATES_OFF,
            Self::ClockSynchronised => CLOCK_SYNCHRONISED,
            Self::FirewallOpen => FIREWALL_OPEN,
        }
    }
}

const LINK_MTU: Row = Row::new(
    "link_mtu",
    Enforce,
    Blocks,
    "the Thunderbolt port has the MTU of host.link_mtu_bytes",
    "Set it by hand with `sudo networksetup -setMTU PORT BYTES` (Linux: `ip link set dev PORT mtu \
     BYTES`). If that is refused, take the port out of its bridge first; if the port is not there, \
     check the cable and host.link.",
)
.surviving_reboot();

const LINK_ADDRESS: Row = Row::new(
    "link_address",
    Enforce,
    Blocks,
    "the Thunderbolt port has exactly one IPv4 address",
    "List the port's addresses with `ifconfig PORT inet`. If there is none, check the cable and run \
     `sudo ifconfig PORT inet 169.254.0.1 netmask 255.255.0.0 alias`, with another last number on \
     the other Mac; if there are several, remove all but one with `sudo ifconfig PORT inet ADDRESS \
     -alias`.",
);

const LINK_UNBRIDGED: Row = Row::new(
    "link_unbridged",
    Enforce,
    Blocks,
    "the Thunderbolt port is in no bridge",
    "Remove it with `sudo ifconfig bridge0 deletem PORT`. If it comes back, give the port a network \
     service of its own with `sudo networksetup -createnetworkservice NAME \"Thunderbolt N\"` (the \
     number is in `networksetup -listallhardwareports`) and delete the Thunderbolt Bridge in System \
     Settings, Network.",
);

const RDMA_ENABLED: Row = Row::new(
    "rdma_enabled",
    Enforce,
    Blocks,
    "RDMA over Thunderbolt is switched on in the firmware",
    "Only Recovery can switch it on: shut the Mac down, hold the power button until the options \
     appear, open Terminal there, run `rdma_ctl enable` and restart.",
)
.surviving_reboot()
.slow();

const RDMA_ACTIVE: Row = Row::new(
    "rdma_active",
    Enforce,
    Blocks,
    "the port's own RDMA device is there and active",
    "Check that both Macs run and that a Thunderbolt 5 cable joins the ports of host.link, not the \
     port beside Ethernet of a Mac Studio; then look at `ibv_devinfo` once. A device that stays \
     down, or a tool that hangs, needs `sudo shutdown -r now`.",
)
.slow();

const WIRED_LIMIT: Row = Row::new(
    "wired_limit",
    Enforce,
    Blocks,
    "the GPU may wire host.wired_limit_mib",
    "Set it by hand with `sudo sysctl iogpu.wired_limit_mb=MIB` and start the ranks again: they read \
     it only once. If the system does not take the value, lower host.wired_limit_mib.",
);

const GPU_USABLE: Row = Row::new(
    "gpu_usable",
    Enforce,
    Blocks,
    "the GPU can be used where the engine runs",
    "See whether the system has a GPU with `system_profiler SPDisplaysDataType`. If it has, the \
     engine's user can't reach it: start the service again with `sudo launchctl kickstart \
     system/LABEL` after a drain; if it has none, reboot, and then have the hardware checked.",
)
.slow();

const DISK_SPACE: Row = Row::new(
    "disk_space",
    Enforce,
    Blocks,
    "the disks of the ledger and of the models have host.disk_free_min_mib free",
    "Find the full disk with `df -h` and delete from it, such as models that are not served; on a \
     Mac `tmutil listlocalsnapshots /` shows snapshots that keep deleted files.",
)
.surviving_reboot();

const OPEN_FILES: Row = Row::new(
    "open_files",
    Enforce,
    Blocks,
    "the supervisor and its children may open host.open_files_min files",
    "Raise NumberOfFiles in HardResourceLimits of the service's property list (Linux: LimitNOFILE of \
     its unit) and load it again; `launchctl limit maxfiles` shows the system's own limit.",
);

const OS_VERSION: Row = Row::new(
    "os_version",
    Enforce,
    Blocks,
    "the system is at least of host.os_version_min",
    "Drain, then update macOS to the same version on both Macs: `softwareupdate --list`, then `sudo \
     softwareupdate --install --restart LABEL`.",
)
.surviving_reboot();

const UNATTENDED_BOOT: Row = Row::new(
    "unattended_boot",
    Observe,
    Degrades,
    "the machine boots to serving with nobody present",
    "FileVault waits for a password at every start. Turn it off with `sudo fdesetup disable`, or \
     keep it and unlock the disk by hand after each reboot: until it is off the supervisor never \
     reboots by itself.",
)
.surviving_reboot()
.slow();

const RESTART_AFTER_POWER_LOSS: Row = Row::new(
    "restart_after_power_loss",
    Enforce,
    Degrades,
    "the machine starts again after a power loss",
    "Run `sudo pmset -a autorestart 1`; a Mac that does not know the key needs someone to press its \
     power button, so set invariants.restart_after_power_loss to \"observe\" there.",
)
.surviving_reboot()
.slow();

const SLEEP_OFF: Row = Row::new(
    "sleep_off",
    Enforce,
    Degrades,
    "the machine does not sleep",
    "Run `sudo pmset -a sleep 0`; if it is set back, look for a profile that sets it with `sudo \
     profiles list`.",
)
.surviving_reboot()
.slow();

const DISK_SLEEP_OFF: Row = Row::new(
    "disk_sleep_off",
    Enforce,
    Degrades,
    "the disks do not sleep",
    "Run `sudo pmset -a disksleep 0`; if it is set back, look for a profile that sets it with `sudo \
     profiles list`.",
)
.surviving_reboot()
.slow();

const POWER_NAP_OFF: Row = Row::new(
    "power_nap_off",
    Enforce,
    Degrades,
    "the machine does not wake for Power Nap",
    "Run `sudo pmset -a powernap 0`; if it is set back, look for a profile that sets it with `sudo \
     profiles list`. Where `pmset -g` does not print the key, set invariants.power_nap_off to \
     \"observe\".",
)
.surviving_reboot()
.slow();

const LOW_POWER_OFF: Row = Row::new(
    "low_power_off",
    Enforce,
    Degrades,
    "Low Power Mode is off",
    "Run `sudo pmset -a lowpowermode 0`, or `sudo pmset -a powermode 0` on a Mac that also has a \
     high power mode.",
)
.surviving_reboot()
.slow();

const SPOTLIGHT_OFF: Row = Row::new(
    "spotlight_off",
    Enforce,
    Degrades,
    "Spotlight indexes no volume",
    "Run `sudo mdutil -i off VOLUME` for each volume that `mdutil -a -s` shows as enabled; eject \
     volumes that are not needed.",
)
.surviving_reboot()
.slow();

const AUTOMATIC_UPDATES_OFF: Row = Row::new(
    "automatic_updates_off",
    Observe,
    Degrades,
    "the system neither installs updates nor restarts for them by itself",
    "Run `sudo softwareupdate --schedule off` and turn automatic updates off in System Settings, \
     General, Software Update; then update by hand while drained. A management profile overrides \
     this: `sudo profiles list`.",
)
.surviving_reboot()
.slow();

const CLOCK_SYNCHRONISED: Row = Row::new(
    "clock_synchronised",
    Observe,
    Degrades,
    "the clock is synchronised",
    "Run `sudo systemsetup -setusingnetworktime on` (Linux: `timedatectl set-ntp true`) and check \
     that the time server can be reached.",
)
.surviving_reboot()
.slow();

const FIREWALL_OPEN: Row = Row::new(
    "firewall_open",
    Observe,
    Degrades,
    "the firewall does not block the engine's and the API's ports",
    "Allow tandem with `sudo /usr/libexec/ApplicationFirewall/socketfilterfw --add PROGRAM` and the \
     same with `--unblockapp PROGRAM`, or turn \"block all incoming connections\" off in System \
     Settings, Network, Firewall.",
)
.surviving_reboot()
.slow();

#[cfg(test)]
mod tests;
