//! The `[engine]` section of `tandem.toml`.

use serde::{Deserialize, Serialize};

/// How ranks compute and talk to each other. Every field has a default; see `config/tandem.toml`
/// for the reason of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What carries activations between ranks.
    pub backend: Backend,
    /// TCP port of rank 0's control channel.
    pub control_port: u16,
    /// Rank `n` listens for the ring on this port plus `n`.
    pub ring_port_base: u16,
    /// TCP port of rank 0 on which JACCL's ranks meet.
    pub coordinator_port: u16,
    /// Whether an epoch that can't have JACCL is carried by the ring.
    pub ring_fallback: bool,
    /// Whether MLX waits for the GPU by polling memory (`MLX_METAL_FAST_SYNCH`).
    pub metal_fast_synch: bool,
    /// Memory that MLX keeps wired, in MiB (`mlx_set_wired_limit`); 0 leaves that call out.
    pub wired_limit_mib: u64,
    /// Most tokens of a prompt computed in one step.
    pub prefill_step_tokens: u32,
    /// Most tokens of prompt and completion together; 0 takes the model's own limit.
    pub context_tokens: u32,
    /// Most requests decoded together.
    pub max_active: u32,
    /// Most memory for the KV caches of one rank, in MiB; 0 takes what the machine's ceiling leaves.
    pub kv_cache_max_mib: u64,
    /// Most requests waiting in rank 0 behind those.
    pub max_queued: u32,
    /// On a CPU: expand quantised weights to f32 at load.
    pub cpu_expand: bool,
    /// How long ranks wait for each other at start, in milliseconds.
    pub form_timeout_ms: u64,
    /// Least time that a rank may say nothing on the control channel, in milliseconds; more where it was
    /// slow lately.
    pub silence_timeout_ms: u64,
    /// Least time that one step may take, in milliseconds; more where steps were slow lately.
    pub step_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backend: Backend::Ring,
            control_port: 52310,
            ring_port_base: 52320,
            coordinator_port: 52311,
            ring_fallback: true,
            metal_fast_synch: false,
            wired_limit_mib: 0,
            prefill_step_tokens: 512,
            context_tokens: 0,
            max_active: 16,
            kv_cache_max_mib: 0,
            max_queued: 64,
            cpu_expand: true,
            form_timeout_ms: 30_000,
            silence_timeout_ms: 5_000,
            step_timeout_ms: 60_000,
        }
    }
}

/// MLX's distributed back ends that Tandem uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// TCP ring: any platform.
    Ring,
    /// RDMA over Thunderbolt 5: macOS 26.2 and later.
    Jaccl,
}

impl Backend {
    /// MLX's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Jaccl => "jaccl",
        }
    }
}

impl Settings {
    /// Checks ranges. The error names the key, what it holds and what it may hold.
    pub fn validate(&self) -> Result<(), String> {
        let within = |key: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("engine.{key} is {value}; it must be from {low} to {high}"))
            }
        };
        within("control_port", self.control_port.into(), 1, 65_535)?;
        // One port a rank, and eight ranks are the most that JACCL's mesh takes.
        within("ring_port_base", self.ring_port_base.into(), 1, 65_527)?;
        within("coordinator_port", self.coordinator_port.into(), 1, 65_535)?;
        // 16 TiB: more is a slip of units.
        within("wired_limit_mib", self.wired_limit_mib, 0, 16 << 20)?;
        within("prefill_step_tokens", self.prefill_step_tokens.into(), 16, 16_384)?;
        within("max_active", self.max_active.into(), 1, 256)?;
        // 16 TiB: far above any machine, far below where its bytes would overflow.
        within("kv_cache_max_mib", self.kv_cache_max_mib, 0, 1 << 24)?;
        within("max_queued", self.max_queued.into(), 0, 4_096)?;
        within("form_timeout_ms", self.form_timeout_ms, 1_000, 600_000)?;
        within("silence_timeout_ms", self.silence_timeout_ms, 500, 60_000)?;
        within("step_timeout_ms", self.step_timeout_ms, 1_000, 600_000)
    }
}

/// What one rank process is told: by its config and command line, all but the epoch's secret.
#[derive(Clone, Debug, PartialEq)]
pub struct RankSetup {
    /// This rank's number, from 0.
    pub rank: u32,
    /// Address and share of every rank, in order.
    pub ranks: Vec<RankPlace>,
    /// Folder of the model.
    pub model_dir: std::path::PathBuf,
    /// Folder for the rank's socket, which the rank may write to.
    pub run_dir: std::path::PathBuf,
    /// The `[engine]` section.
    pub settings: Settings,
    /// The most that this machine's ranks may hold together; `None` if it is not known.
    pub ceiling: Option<crate::budget::Ceiling>,
}

/// Where a rank is and how much of the model it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankPlace {
    /// IP address that the other ranks reach it at.
    pub address: std::net::IpAddr,
    /// Its share of heads and columns, relative to the others'.
    pub weight: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_a_bad_value_is_named() {
        Settings::default().validate().unwrap();
        let bad = Settings { prefill_step_tokens: 3, ..Settings::default() };
        let message = bad.validate().unwrap_err();
        assert!(message.contains("engine.prefill_step_tokens is 3"), "{message}");
    }
}
