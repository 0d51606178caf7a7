//! Real links over real sockets with real keys: what they hear, and what can't disturb them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod forwarder;
mod hears;
mod hostile;
mod node;
mod raw;
mod refuses;
