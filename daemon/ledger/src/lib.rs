//! The supervisor's memory and history in one SQLite file.
