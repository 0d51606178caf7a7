//! `tandem rank`: one share of the model as a process.

use std::io::{BufRead, BufReader, IsTerminal, Read};

use tandem_wire::{Session, exit};
use tracing::error;

use crate::config::Config;

/// Longest session line that is read; a real one has about a hundred bytes.
const SESSION_BYTES_MAX: u64 = 4 << 10;

/// Runs a rank until it unloads or fails; returns its exit code ([`tandem_wire::exit`]).
pub fn run(config: &Config, rank: u32) -> i32 {
    let Some(mut setup) = config.rank_setup(rank) else {
        error!("--rank {rank}: the config has {} [[rank]] sections", config.rank.len());
        return exit::USAGE;
    };
    setup.ceiling = config.memory_ceiling();
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        error!(
            "a rank takes its session from `tandem supervise` on standard input, not from a \
             terminal; start the supervisor instead"
        );
        return exit::USAGE;
    }
    match read_session(stdin.lock()) {
        Ok(session) => tandem_engine::run_rank(setup, session),
        Err(reason) => {
            error!("no session on standard input: {reason}; `tandem supervise` starts ranks");
            exit::USAGE
        }
    }
}

fn read_session(input: impl Read) -> Result<Session, String> {
    let mut line = String::new();
    BufReader::new(input)
        .take(SESSION_BYTES_MAX)
        .read_line(&mut line)
        .map_err(|error| error.to_string())?;
    // The line itself is a secret, so no part of it may show up in an error.
    let session: Session = serde_json::from_str(&line)
        .map_err(|_| format!("its first line ({} bytes) is not a session", line.len()))?;
    let is_key = session.control_key.len() == 64
        && session.control_key.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_key {
        return Err("its control_key is not 64 hex digits".into());
    }
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_one_bounded_line() {
        let key = "ab".repeat(32);
        let line = format!("{{\"epoch\":3,\"control_key\":\"{key}\"}}\n");
        let session = read_session(format!("{line}more").as_bytes()).unwrap();
        assert_eq!((session.epoch, session.control_key), (3, key.clone()));

        let endless = std::io::repeat(b'x');
        assert!(read_session(endless).unwrap_err().contains("4096 bytes"));
        assert!(read_session("".as_bytes()).is_err());
        let short = line.replace(&key, "abcd");
        let reason = read_session(short.as_bytes()).unwrap_err();
        assert!(reason.contains("64 hex digits") && !reason.contains("abcd"), "{reason}");
    }
}
