//! The listener's side of one connection.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    pin, select,
    sync::watch,
    time::{sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    dial::HANDSHAKE_TIMEOUT,
    listen::Listening,
    message::{self, FRAME_BYTES_MAX, Message, WireError},
    throughput::{self, BURST_BYTES, CHUNK_BYTES},
    tls::{self, Shown},
};
use crate::identity::{Fingerprint, Pins};

/// How long a connection may say nothing, at the least: longer than any `pair.report_ms` that makes
/// sense, whatever it is on the other node.
const IDLE_MIN: Duration = Duration::from_secs(10);

/// Time to write an answer: two seconds longer than a frame takes at 2 Mbit/s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for the other side to take why the connection ends.
const LINGER: Duration = Duration::from_secs(1);

/// Most reads of what still comes meanwhile: a few frames' worth.
const LINGER_READS_MAX: usize = 1_000;

/// Least time between two answers with an account. An honest dialler leaves five times as much.
const ANSWER_PAUSE: Duration = Duration::from_millis(10);

/// Least time between two lists of files.
const MANIFEST_PAUSE: Duration = Duration::from_secs(1);

/// Answers until the connection ends.
pub(super) async fn serve(
    listening: &Listening,
    tcp: TcpStream,
    id: u64,
) -> Result<Infallible, WireError> {
    let accepted = Instant::now();
    tcp.set_nodelay(true)?;
    let board = &listening.board;
    let mut pins = board.trust.changes();
    let shown = Shown::default();
    let config = tls::listener(&listening.identity, board.trust.clone(), shown.clone())
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let handshake = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp).into_fallible())
        .await
        .map_err(|_| WireError::Timeout("TLS handshake"))?;
    let mut stream = match handshake {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            let _ = timeout(LINGER, hang_up(tcp)).await;
            return Err(match shown.get() {
                Some(found) if board.trust.node(found).is_none() => WireError::Stranger(found),
                _ => error.into(),
            });
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let pin = certificate.map(|it| Fingerprint::of(it)).ok_or(WireError::Closed)?;
    let node = board.trust.node(pin).ok_or(WireError::Stranger(pin))?;
    listening.admission.prove(id, &node);
    let mut talk =
        Talk { listening, id, node, pin, said_after: accepted, manifest_told: None, bulk_bytes: 0 };
    let Err(error) = talk.answer_all(&mut stream, &mut pins).await;
    if talk.is_worth_telling(&error) {
        let refusal = Message::Refused { reason: message::cut(&error.to_string()) };
        // It may be gone already.
        let _ = timeout(LINGER, message::write(&mut stream, &refusal)).await;
        let _ = timeout(LINGER, hang_up(stream.into_inner().0)).await;
    }
    Err(error)
}

/// Ends a connection so that what was last said arrives: where something that came is left unread,
/// closing resets the connection, and the other side may lose why.
async fn hang_up(mut tcp: TcpStream) -> std::io::Result<()> {
    tcp.shutdown().await?;
    let mut rest = [0; 1 << 10];
    for _ in 0..LINGER_READS_MAX {
        if tcp.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

struct Talk<'a> {
    listening: &'a Listening,
    id: u64,
    node: String,
    pin: Fingerprint,
    /// When this node last said something: the next question was made after that.
    said_after: Instant,
    manifest_told: Option<Instant>,
    bulk_bytes: usize,
}

impl Talk<'_> {
    fn is_worth_telling(&self, error: &WireError) -> bool {
        !matches!(error, WireError::Closed | WireError::Io(_) | WireError::Timeout(_))
    }

    async fn answer_all(
        &mut self,
        stream: &mut TlsStream<TcpStream>,
        pins: &mut watch::Receiver<Pins>,
    ) -> Result<Infallible, WireError> {
        let idle = self.listening.board.silence.max(IDLE_MIN);
        loop {
            let asked = timeout(idle, self.read(stream, pins))
                .await
                .map_err(|_| WireError::Timeout("question"))??;
            self.listening.admission.touch(self.id);
            let answer = self.answer(stream, asked).await?;
            timeout(WRITE_TIMEOUT, message::write(stream, &answer))
                .await
                .map_err(|_| WireError::Timeout("reader for an answer"))??;
        }
    }

    /// The next question, unless the node stops being trusted first.
    async fn read(
        &self,
        stream: &mut TlsStream<TcpStream>,
        pins: &mut watch::Receiver<Pins>,
    ) -> Result<Message, WireError> {
        let question = message::read(stream, FRAME_BYTES_MAX);
        pin!(question);
        loop {
            if self.listening.board.trust.node(self.pin).as_deref() != Some(self.node.as_str()) {
                return Err(WireError::Stranger(self.pin));
            }
            select! {
                question = &mut question => return question,
                _ = pins.changed() => {}
            }
        }
    }

    async fn answer(
        &mut self,
        stream: &mut TlsStream<TcpStream>,
        asked: Message,
    ) -> Result<Message, WireError> {
        let board = &self.listening.board;
        match asked {
            Message::Ask(account) => {
                account.check(&self.node)?;
                board.heard(&self.node, self.pin, account, self.said_after);
                sleep_until((self.said_after + ANSWER_PAUSE).into()).await;
                self.said_after = Instant::now();
                Ok(Message::Answer(board.telling.account()))
            }
            Message::AskManifest {} => {
                if let Some(told) = self.manifest_told {
                    sleep_until((told + MANIFEST_PAUSE).into()).await;
                }
                self.manifest_told = Some(Instant::now());
                Ok(board.telling.manifest_message())
            }
            Message::Bulk { size_bytes } => {
                let size_bytes = size_bytes as usize;
                self.bulk_bytes = self.bulk_bytes.saturating_add(size_bytes);
                if size_bytes > CHUNK_BYTES || self.bulk_bytes > BURST_BYTES {
                    return Err(WireError::Malformed("more bulk than a measurement takes".into()));
                }
                timeout(WRITE_TIMEOUT, throughput::swallow(stream, size_bytes))
                    .await
                    .map_err(|_| WireError::Timeout("bulk"))??;
                Ok(Message::BulkDone {})
            }
            other => Err(WireError::unexpected(&other)),
        }
    }
}
