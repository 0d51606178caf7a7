//! What to do, decided in pure code.

pub mod invariant;
