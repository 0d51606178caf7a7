//! host
pub mod mac;
