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

pub mod checkpoint;
pub mod error;
pub mod execute;
mod expand;
pub mod gguf;
pub mod load;
pub mod mlx;
pub mod model;
pub mod model_config;
pub mod sample;
pub mod settings;
pub mod shard;
pub mod start;
pub mod step;

pub use error::EngineError;
pub use settings::Settings;
