//! Where everything of Tandem lies on a Mac.

/// Label of the launchd job.
pub const LABEL: &str = "io.tandem.supervise";
/// Identifier of the installer package, by which `pkgutil` knows it.
pub const PACKAGE_ID: &str = "io.tandem.pkg";
/// Folder of the executable, MLX's libraries and the uninstaller.
pub const LIBEXEC: &str = "/usr/local/libexec/tandem";
/// The executable.
pub const EXECUTABLE: &str = "/usr/local/libexec/tandem/tandem";
/// The command that admins type: a symbolic link to [`EXECUTABLE`].
pub const COMMAND: &str = "/usr/local/bin/tandem";
/// The uninstaller.
pub const UNINSTALLER: &str = "/usr/local/libexec/tandem/uninstall";
/// What an admin edits. Never in the payload: an installed one is kept.
pub const CONFIG: &str = "/usr/local/etc/tandem/tandem.toml";
/// What [`CONFIG`] begins as, with every key and its default.
pub const CONFIG_DEFAULT: &str = "/usr/local/share/tandem/tandem.toml";
/// The launchd job.
pub const JOB: &str = "/Library/LaunchDaemons/io.tandem.supervise.plist";
/// Rotation of what launchd writes to [`LOGS`].
pub const NEWSYSLOG: &str = "/etc/newsyslog.d/tandem.conf";
/// Folder of the log files.
pub const LOGS: &str = "/var/log/tandem";
/// Folder of state and models.
pub const VAR: &str = "/usr/local/var/tandem";
/// Folder of sockets and process ids; emptied at a boot.
pub const RUN: &str = "/var/run/tandem";
/// The hidden user that gateway and ranks run as.
pub const USER: &str = "_tandem";
