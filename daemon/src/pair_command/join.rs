//! `tandem pair join`: types the code, or looks for where one is shown.

use std::{
    io::{self, IsTerminal, Read},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use tandem_peer::pairing::{self, BROWSE, Code, JoinError, Limits, Node};
use tandem_wire::exit;

use super::{Here, REFUSED, UNAVAILABLE, block_on, shown};
use crate::output;

/// How long looking a name up may take: two servers that don't answer, 5 s each (resolv.conf(5)).
const RESOLVE: Duration = Duration::from_secs(10);

/// Longest line that is read for a code.
const LINE_BYTES_MAX: u64 = 256;

pub(super) fn run(here: &Here, node: Node, host: &str, code: Option<&str>) -> anyhow::Result<i32> {
    let Some((name, port)) = host_and_port(host, here.config.pair.pairing_port) else {
        errln!("{} is not HOST or HOST:PORT; [ADDRESS]:PORT for IPv6", shown(host));
        return Ok(exit::USAGE);
    };
    let typed = match code {
        Some(code) => code.to_owned(),
        None => ask_code()?,
    };
    let code: Code = match typed.trim().parse() {
        Ok(code) => code,
        Err(error) => {
            errln!("{error}");
            return Ok(exit::USAGE);
        }
    };
    block_on(async {
        let addresses = match resolve(&name, port).await {
            Ok(addresses) => addresses,
            Err(error) => {
                errln!("can't find {}: {error}", shown(&name));
                return UNAVAILABLE;
            }
        };
        match pairing::join(&addresses, &node, &code, &Limits::default()).await {
            Ok(paired) => {
                here.tell_paired(&paired);
                exit::OK
            }
            Err(error) => {
                let code = exit_code(&error);
                errln!("{}: {:#}", shown(host), anyhow::Error::new(error));
                code
            }
        }
    })
}

fn exit_code(error: &JoinError) -> i32 {
    match error {
        JoinError::NotReached { .. }
        | JoinError::Broken(_)
        | JoinError::TimedOut { .. }
        | JoinError::NotKept { .. }
        | JoinError::Unsure { .. } => UNAVAILABLE,
        JoinError::Refused(_)
        | JoinError::NotPairing
        | JoinError::NotProven
        | JoinError::Here { .. }
        | JoinError::There(_) => REFUSED,
    }
}

/// The code from standard input, so that it is in no list of processes and no shell's history.
fn ask_code() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        output::tell(format_args!("code: "));
    }
    let mut line = Vec::new();
    // A byte at a time: a terminal gives lines, and a pipe may stay open behind the line.
    for byte in io::stdin().lock().take(LINE_BYTES_MAX).bytes() {
        match byte.context("can't read the code from standard input")? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Host and port of `HOST`, `HOST:PORT`, `[V6]:PORT`, `[V6]` or `V6`.
fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port != 0))?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host, port)));
    Ok(found.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.collect())
}

/// Lists who says by mDNS that it shows a code. Joins nobody: anyone can say so.
pub(super) fn look(here: &Here) -> anyhow::Result<i32> {
    errln!("looking for {} s for machines that show a code", BROWSE.as_secs());
    let found = match pairing::browse(BROWSE) {
        Ok(found) => found,
        Err(error) => {
            errln!("{error}");
            return Ok(UNAVAILABLE);
        }
    };
    let others: Vec<_> =
        found.into_iter().filter(|found| found.node != here.config.node.name).collect();
    if others.is_empty() {
        errln!(
            "none was found. Run `tandem pair init` on the other machine; if it runs, multicast does \
             not get through here, and `tandem pair join HOST` with its name or address works all the \
             same"
        );
        return Ok(UNAVAILABLE);
    }
    outln!("Anyone in this network can say this; the code proves who it is. For the right one:");
    for found in others {
        outln!("\n{}", found.node);
        for host in found.hosts {
            // Brackets are a pattern to a shell.
            let host = if host.starts_with('[') { format!("'{host}'") } else { host };
            outln!("    sudo tandem pair join {host}{}", here.config_option());
        }
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_with_or_without_its_port() {
        for (text, expected) in [
            ("left", Some(("left", 9))),
            ("left.local:80", Some(("left.local", 80))),
            ("10.0.0.1:80", Some(("10.0.0.1", 80))),
            ("10.0.0.1", Some(("10.0.0.1", 9))),
            ("fe80::1%en0", Some(("fe80::1%en0", 9))),
            ("[fe80::1%en0]:80", Some(("fe80::1%en0", 80))),
            ("[::1]", Some(("::1", 9))),
            ("", None),
            (":80", None),
            ("left:", None),
            ("left:0", None),
            ("left:65536", None),
            ("left:http", None),
            ("[::1", None),
            ("[::1]80", None),
            ("[]:80", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(text, 9), expected, "{text}");
        }
    }
}
