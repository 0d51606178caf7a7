//! Exit codes of a rank: the supervisor's first and most certain evidence of why it ended.
//!
//! 64 to 78 are the ones of BSD `sysexits.h` where one fits; the engine's own start at 80.

/// Orderly unload: arrays dropped, group left, nothing stranded.
pub const OK: i32 = 0;
/// The command line or the config is wrong (`EX_USAGE`). Restarting can't help.
pub const USAGE: i32 = 64;
/// The model folder is missing, malformed, unsupported or can't be split so (`EX_DATAERR`).
/// Restarting can't help.
pub const MODEL: i32 = 65;
/// A bug in the engine: an invariant of our own broke, or a thread panicked (`EX_SOFTWARE`).
pub const SOFTWARE: i32 = 70;
/// A socket, file or address the rank needs can't be had (`EX_OSERR`).
pub const OS: i32 = 71;
/// MLX reported an error in a step (out of memory, a lost ring peer, a failed kernel).
pub const ENGINE: i32 = 80;
/// The distributed group could not be formed, or formed with another size than configured.
pub const GROUP: i32 = 81;
/// The control channel to another rank was closed by it.
pub const PEER_LOST: i32 = 82;
/// Another rank's control channel is open but said nothing for too long.
pub const PEER_SILENT: i32 = 83;
/// Two ranks computed different tokens, a decision arrived out of order, or a sum over ranks was
/// wrong.
pub const INTEGRITY: i32 = 84;
/// A step took longer than `step_timeout_ms`.
pub const STALLED: i32 = 85;

/// What an exit code means, for logs and `tandem status`.
pub const fn meaning(code: i32) -> &'static str {
    match code {
        OK => "orderly unload",
        USAGE => "bad command line or config",
        MODEL => "the model folder can't be served",
        SOFTWARE => "a bug in the engine",
        OS => "a socket, file or address could not be had",
        ENGINE => "MLX reported an error in a step",
        GROUP => "the distributed group could not be formed",
        PEER_LOST => "another rank closed its control channel",
        PEER_SILENT => "another rank fell silent",
        INTEGRITY => "ranks disagree, or what one sent arrived wrong",
        STALLED => "a step took longer than step_timeout_ms",
        _ => "unknown",
    }
}

/// Whether starting again with the same config and files could end differently.
pub const fn is_retryable(code: i32) -> bool {
    !matches!(code, USAGE | MODEL)
}
