//! Tandem's engine: one *rank* of a tensor-parallel language model on MLX.
//!
//! ```text
//!  model files          rank process                       device
//!  gguf ─import─▶ checkpoint ─shard─▶ execute ◀─Step── rank ◀─Submit── gateway
//!                                      │ models/*           │ schedule (rank 0 decides)
//!                                      │ sample             │ control  (log of decisions)
//!                                      ▼                    ▼
//!                                     mlx (group, arrays)  other ranks
//! ```
//!
//! What the engine does not know: HTTP, text, tokenisers, chat templates, users. It takes token ids
//! and gives token ids.

pub mod affinity;
pub mod budget;
pub mod checkpoint;
pub mod control;
pub mod error;
pub mod execute;
mod expand;
pub mod gguf;
pub mod load;
pub mod mlx;
pub mod model;
pub mod model_config;
pub mod rank;
mod role;
pub mod sample;
pub mod schedule;
pub mod settings;
pub mod shard;
pub mod start;
pub mod step;
pub mod transport;

pub use error::EngineError;
pub use role::run_rank;
pub use settings::Settings;
