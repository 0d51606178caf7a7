//! The real gateway on a real port, with a small real tokeniser, against a rank played by the
//! test: what clients see, and what the engine is told.

mod answers;
mod fake_rank;
mod faults;
mod http;
mod limits;
mod model_folder;
mod refusals;
mod server;
