//! The system's name, version and build.

/// In words, such as `Darwin 26.3 (kernel 25.3.0)`: equal on two machines only if they run the same
/// system.
pub fn os_version() -> String {
    let name = sysinfo::System::name().unwrap_or_else(|| "an unknown system".into());
    let version = sysinfo::System::os_version().unwrap_or_default();
    let kernel = sysinfo::System::kernel_version().unwrap_or_default();
    format!("{name} {version} (kernel {kernel})")
}
