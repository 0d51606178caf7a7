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
mod ring_join;
#[cfg(target_os = "linux")]
mod ring_sockets;

#[cfg(test)]
pub use arrays::is_computed;
pub use arrays::{adopt, slice, slice_update, upload};
pub use device::working_set_bytes;
pub use failure::{During, install_error_handler};
#[cfg(target_os = "linux")]
pub use gemv::products;
pub use group::Group;

use crate::EngineError;

/// Rows and columns of the matrices of [`prove_device`]: large enough for a real kernel, small enough
/// to disturb nobody.
const PROOF_SIZE: i32 = 64;

/// Multiplies two small matrices on the device that ranks compute on, and compares every number.
///
/// # Errors
/// MLX's own, or that a number is wrong.
pub fn prove_device() -> Result<(), EngineError> {
    install_error_handler();
    let n = PROOF_SIZE;
    let shape = [n, n];
    // Row i holds i, so each number of its product with ones is i times n: exact in f32.
    let rows: Vec<f32> = (0..n * n).map(|at| (at / n) as f32).collect();
    let a = mlx_rs::Array::from_slice(&rows, &shape);
    let ones = mlx_rs::Array::from_slice(&vec![1.0_f32; rows.len()], &shape);
    let product = a.matmul(&ones).during("multiply two matrices")?;
    product.eval().during("multiply two matrices")?;
    let found = product.try_as_slice::<f32>().map_err(|error| EngineError::Mlx {
        what: "multiply two matrices",
        message: error.to_string(),
    })?;
    let is_right = found.iter().zip(&rows).all(|(found, row)| *found == row * n as f32);
    if is_right && found.len() == rows.len() {
        return Ok(());
    }
    Err(EngineError::Integrity("the device multiplied two matrices wrongly".into()))
}

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

#[cfg(test)]
mod tests {
    #[test]
    fn the_device_multiplies() {
        super::prove_device().unwrap();
    }
}
