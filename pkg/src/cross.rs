//! The executable for Apple silicon and what is shipped beside it.

use std::path::PathBuf;

/// Files for a Mac, all arm64. Absolute paths.
#[derive(Clone, Debug)]
pub struct Built {
    /// `tandem`; finds the libraries beside itself (`@loader_path`).
    pub executable: PathBuf,
    /// `libmlx.dylib` and `libjaccl.dylib`.
    pub libraries: Vec<PathBuf>,
    /// `mlx.metallib`: MLX's GPU kernels, which `libmlx.dylib` finds beside itself.
    pub metallib: PathBuf,
}
