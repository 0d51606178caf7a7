//! Builds Tandem for macOS, from Linux or on a Mac, and packs it as an installer package.
//!
//! ```text
//!   cross ─▶ executable, libraries, metallib ─▶ payload ─▶ component ─▶ product archive (.pkg)
//! ```

pub mod cross;
pub mod layout;
pub mod macho;
