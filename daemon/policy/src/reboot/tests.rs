//! Stories of reboots of several nodes.
