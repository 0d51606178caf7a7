//! The engine's door to MLX: the few calls that `mlx-rs` does not wrap, and errors with context.
//!
//! One thread owns MLX. Its streams belong to the thread that made them, its groups must see
//! collectives in one order, and its drivers crash under concurrent command buffers; so everything
//! in this crate that holds an [`mlx_rs::Array`] lives and dies on the rank's engine thread.
//!
//! This is the only module with `unsafe`.

mod arrays;
mod device;
mod failure;
#[cfg(target_os = "linux")]
mod gemv;
mod group;
#[cfg(target_os = "linux")]
mod ring_sockets;

pub use arrays::{adopt, slice, slice_update, upload};
pub use device::working_set_bytes;
pub use failure::{During, install_error_handler};
#[cfg(target_os = "linux")]
pub use gemv::products;
pub use group::Group;

/// Whether this build of MLX computes on Metal (arrays stay as stored) or on the CPU (see
/// [`crate::Settings::cpu_expand`]).
pub fn on_metal() -> bool {
    cfg!(target_os = "macos")
}

/// Gives back what MLX keeps for reuse, and starts the record of [`memory_bytes`] anew: for between
/// two parts of a process's life that use memory for different things.
pub fn forget_peak() {
    let forgotten =
        mlx_rs::memory::clear_cache().and_then(|()| mlx_rs::memory::reset_peak_memory());
    if let Err(error) = forgotten {
        tracing::debug!(%error, "MLX's memory was not given back");
    }
}

/// Bytes MLX holds now, and the most it held at once (see [`forget_peak`]).
pub fn memory_bytes() -> (u64, u64) {
    let now = mlx_rs::memory::active_memory().unwrap_or(0);
    let peak = mlx_rs::memory::peak_memory().unwrap_or(0);
    (now as u64, peak as u64)
}
