//! How nodes trust and hear each other.

pub mod identity;
pub mod link;
pub mod manifest;
pub mod pairing;
