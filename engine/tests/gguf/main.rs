//! GGUF import, seen from outside: what a file becomes, which files are refused, what is left on
//! disk. Small files are written by the tests themselves; one test imports a real model.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod convert;
mod damage;
mod file;
mod folder;
mod metadata;
mod smollm2;
mod tokenizer;
