//! The executable for Apple silicon and what is shipped beside it.
//!
//! ```text
//!   mlx-c (C++) ─▶ libmlxc.a ─┐
//!   mlx-c's headers ─▶ bindings.rs ─▶ cargo ─▶ tandem ─┬─▶ one folder, signed
//!   MLX's wheel ─▶ libmlx.dylib, libjaccl.dylib, mlx.metallib ─┤
//!   all crates' licences ─▶ licenses.txt ─────────────────────┘
//! ```
//!
//! On Linux zig compiles and links, Debian's Rust compiles the standard library too, and the stubs of
//! `pkg/stubs` stand in for Apple's frameworks. On a Mac Xcode's tools do the same steps.

mod cargo;
mod command;
mod key;
mod metadata;
mod mlx;
mod notices;
mod product;
mod sign;
mod tools;

use std::path::{Path, PathBuf};

use anyhow::Context;

use self::metadata::Metadata;
pub use self::sign::Sign;
pub use self::tools::{OnLinux, OnMac, Tools};

/// The target triple.
pub const TARGET: &str = "aarch64-apple-darwin";

/// The oldest macOS that the product runs on, as (major, minor): that of the pinned MLX, and the first
/// with RDMA over Thunderbolt.
pub const MIN_OS: (u16, u8) = (26, 2);

/// What to build from what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The checkout; absolute.
    pub root: PathBuf,
    /// What `install.sh` fetched (`.tandem`); absolute.
    pub tools: PathBuf,
    /// Cargo's target folder; the product lies in its folder `product`.
    pub out: PathBuf,
    /// The oldest macOS, as (major, minor).
    pub min_os: (u16, u8),
    /// How to sign.
    pub sign: Sign,
}

impl Options {
    /// The usual places in the checkout `root`, signed ad hoc.
    ///
    /// # Errors
    /// `root` is no checkout of Tandem.
    pub fn in_checkout(root: &Path) -> anyhow::Result<Self> {
        let root = root
            .canonicalize()
            .with_context(|| format!("no folder {}: give --root", root.display()))?;
        anyhow::ensure!(
            root.join("pkg/stubs").is_dir(),
            "{} is no checkout of Tandem: give --root",
            root.display()
        );
        Ok(Self {
            tools: root.join(".tandem"),
            out: root.join("target/mac"),
            root,
            min_os: MIN_OS,
            sign: Sign::AdHoc,
        })
    }

    /// Stand-ins for what Apple's SDK holds.
    pub fn stubs(&self) -> PathBuf {
        self.root.join("pkg/stubs")
    }

    /// MLX's unpacked wheel for the Mac: `include` and `lib`.
    pub fn mlx(&self) -> PathBuf {
        self.tools.join("cross/mlx-metal/mlx")
    }

    /// `26.2`.
    pub fn min_os_text(&self) -> String {
        format!("{}.{}", self.min_os.0, self.min_os.1)
    }
}

/// Files for a Mac, what is run all arm64. Absolute paths.
#[derive(Clone, Debug)]
pub struct Built {
    /// `tandem`; finds the libraries beside itself (`@loader_path`).
    pub executable: PathBuf,
    /// `libmlx.dylib` and `libjaccl.dylib`.
    pub libraries: Vec<PathBuf>,
    /// `mlx.metallib`: MLX's GPU kernels, which `libmlx.dylib` finds beside itself.
    pub metallib: PathBuf,
    /// The licences of what others wrote in all of these, one text.
    pub licenses: PathBuf,
}

/// Builds what is out of date, lays the product into one folder and signs it.
///
/// # Errors
/// A tool is missing (`install.sh package` brings it), or one fails; the message names it.
pub fn build(options: &Options) -> anyhow::Result<Built> {
    let tools = Tools::find(options)?;
    let metadata = Metadata::read(&tools, options)?;
    let mlx_c = mlx::sources(&metadata)?;
    let made_from = mlx::build_library(&tools, options, &mlx_c)?;
    mlx::write_bindings(&tools, options, &mlx_c)?;
    let executable = cargo::build(&tools, options, &key::link_key(options, &made_from)?)?;
    let licenses = notices::write(&tools, options, &metadata, &mlx_c)?;
    let built = product::assemble(options, &executable, licenses)?;
    sign::sign(&options.sign, &built)?;
    Ok(built)
}
