//! Whether the gateway says that it serves.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use super::child::Shared;

/// How often it is asked while it serves, and while it does not: the second is shorter, so that a
/// start is seen soon.
const PERIOD_READY: Duration = Duration::from_secs(1);
const PERIOD_NOT_READY: Duration = Duration::from_millis(200);

/// How long an answer may take; it needs no engine and no disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Most bytes of the answer that are read: its first line is all that counts.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Asks for ever, wherever the last started gateway listens.
pub(super) async fn watch(shared: Shared, listen: watch::Receiver<SocketAddr>) {
    loop {
        let address = reachable(*listen.borrow());
        let pid = shared.facts().gateway.pid();
        let ready = match pid {
            Some(_) => timeout(ANSWER_TIMEOUT, ask(address)).await.ok().and_then(Result::ok),
            None => None,
        };
        let before = shared.facts().ready.map(|(value, _)| value);
        let reading = ready.map(|value| (value, Instant::now()));
        if before == ready {
            shared.facts().ready = reading;
        } else {
            shared.change(|facts| facts.ready = reading);
        }
        sleep(if ready == Some(true) { PERIOD_READY } else { PERIOD_NOT_READY }).await;
    }
}

/// Where a listener on any address is reached from this machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

async fn ask(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    is_ok(&answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether an HTTP answer has status 200; `None` if it is none.
fn is_ok(answer: &[u8]) -> Option<bool> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    Some(words.next()? == "200")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_200_is_ready_and_noise_is_unknown() {
        assert_eq!(is_ok(b"HTTP/1.1 200 OK\r\n\r\n{}"), Some(true));
        assert_eq!(is_ok(b"HTTP/1.1 503 Service Unavailable\r\n"), Some(false));
        assert_eq!(is_ok(b"SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(is_ok(b""), None);
    }
}
