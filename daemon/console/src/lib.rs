//! What an admin sees: status endpoint, metrics, events, control socket and the commands that print them.
