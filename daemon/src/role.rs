//! The processes that the supervisor starts.

pub mod gateway;
pub mod manifest;
pub mod rank;
