//! Qwen2: Llama with biases on the query, key and value projections, which the loader takes from
//! the files wherever they have them.

pub(super) use super::llama::load;
