//! The commands.
#[cfg(test)]
pub(crate) mod fixtures;
