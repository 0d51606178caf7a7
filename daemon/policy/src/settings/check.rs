//! What is wrong with a section.
