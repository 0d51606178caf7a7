//! How much memory this machine may give its ranks.

use tandem_engine::budget::Ceiling;
use tracing::warn;

use super::Config;

impl Config {
    /// The most that this machine's ranks may hold together: on a Mac what the GPU may wire, elsewhere
    /// all memory less the reserve. `None`, with a word in the log, if the memory can't be read.
    pub fn memory_ceiling(&self) -> Option<Ceiling> {
        // No process is that large: only the total is wanted.
        match tandem_host::memory(u64::MAX) {
            Ok(memory) if cfg!(target_os = "macos") => {
                Some(Ceiling::of_wired(memory.total_bytes, self.host.wired_limit_mib))
            }
            Ok(memory) => Some(Ceiling::of_memory(memory.total_bytes, self.leak.reserve_mib)),
            Err(error) => {
                warn!("the host's memory can't be read, so no bound is known: {error}");
                None
            }
        }
    }
}
