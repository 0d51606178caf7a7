//! Builds Tandem for macOS, from Linux or on a Mac, and packs it as an installer package.
//!
//! ```text
//!   cross ─▶ executable, libraries, metallib ─▶ payload ─▶ component ─▶ product archive (.pkg)
//! ```

pub mod bom;
pub mod command;
pub mod cpio;
pub mod cross;
pub mod distribution;
pub mod inspect;
pub mod layout;
pub mod macho;
pub mod pack;
pub mod package_info;
pub mod payload;
pub mod product;
pub mod sign;
pub mod sources;
pub mod xar;
pub mod xml;
