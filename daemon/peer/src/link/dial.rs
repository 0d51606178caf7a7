//! One path to another node: a connection that is kept, and made again when it breaks.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{AlertDescription, Error as TlsError, pki_types::ServerName};
use tandem_wire::way;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::{sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    board::Board,
    message::{self, FRAME_BYTES_MAX, MANIFEST_BYTES_MAX, Message, WireError},
    throughput::{self, Schedule},
    tls::{self, Shown},
};
use crate::identity::{Fingerprint, Identity, Pins};
use crate::manifest::Manifest;

/// Time for a TCP connection. Shorter than the kernel's first repetition of a SYN, and a new try
/// follows: a cable that was plugged back is found soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for a TLS handshake, which takes a few milliseconds.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// First pause after a failure; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Least time between two questions on a path, however often there is something new to tell.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// One way to one node.
pub(super) struct Path {
    pub(super) board: Arc<Board>,
    pub(super) identity: Identity,
    pub(super) node: String,
    pub(super) address: SocketAddr,
}

/// Keeps a path up for ever.
pub(super) async fn keep(path: Path) {
    let mut pins = path.board.trust.changes();
    let mut schedule = Schedule::default();
    let mut pause = PAUSE_MIN;
    loop {
        pins.mark_unchanged();
        let Some(pin) = path.board.trust.pin(&path.node) else {
            path.fail(&not_paired(&path));
            // Also looks again after a while: why it is not known may change.
            let _ = timeout(PAUSE_MAX, pins.changed()).await;
            continue;
        };
        let mut has_answered = false;
        let shown = Shown::default();
        let mut talk = Talk { path: &path, pin, pins: &mut pins, has_answered: &mut has_answered };
        let Err(error) = talk.connect(&shown, &mut schedule).await;
        path.fail(&explain(&path, pin, &shown, &error));
        pause = if has_answered { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        tokio::select! {
            () = sleep(pause) => {}
            _ = pins.changed() => {}
        }
    }
}

impl Path {
    fn fail(&self, problem: &str) {
        self.board.failed(&self.node, self.address, problem);
    }
}

fn not_paired(path: &Path) -> String {
    match path.board.trust.problem() {
        Some(problem) => format!("the pins can't be read: {problem}"),
        None => {
            let (own, node) = (&path.board.node, &path.node);
            format!("not paired: `tandem pair init` on {own}, `tandem pair join` on {node}")
        }
    }
}

/// What broke the connection, in words that say what to do.
fn explain(path: &Path, pin: Fingerprint, shown: &Shown, error: &WireError) -> String {
    let node = &path.node;
    if let Some(found) = shown.get().filter(|found| *found != pin) {
        return format!(
            "who answers is not {node}: its certificate is {found}, but {pin} is pinned; if {node} \
             was set up anew, pair again"
        );
    }
    let tls = match error {
        WireError::Io(error) => error.get_ref().and_then(|it| it.downcast_ref::<TlsError>()),
        _ => None,
    };
    match tls {
        // How the listener of this module, and any other, says so.
        Some(TlsError::AlertReceived(
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        )) => {
            format!("{node} does not trust this node's certificate; pair again")
        }
        _ => message::cut(&error.to_string()),
    }
}

struct Talk<'a> {
    path: &'a Path,
    pin: Fingerprint,
    pins: &'a mut watch::Receiver<Pins>,
    has_answered: &'a mut bool,
}

impl Talk<'_> {
    async fn connect(
        &mut self,
        shown: &Shown,
        schedule: &mut Schedule,
    ) -> Result<Infallible, WireError> {
        let tcp = timeout(CONNECT_TIMEOUT, connect(self.path.address))
            .await
            .map_err(|_| WireError::Timeout("connection"))??;
        tcp.set_nodelay(true)?;
        let config = tls::dialler(&self.path.identity, self.pin, shown.clone())
            .map_err(|error| WireError::Malformed(error.to_string()))?;
        let name = ServerName::IpAddress(self.path.address.ip().into());
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = timeout(HANDSHAKE_TIMEOUT, connector.connect(name, tcp))
            .await
            .map_err(|_| WireError::Timeout("TLS handshake"))??;
        self.converse(&mut stream, schedule).await
    }

    async fn converse(
        &mut self,
        stream: &mut TlsStream<TcpStream>,
        schedule: &mut Schedule,
    ) -> Result<Infallible, WireError> {
        let board = &self.path.board;
        let mut news = board.telling.changes();
        let mut is_fresh = true;
        loop {
            if board.trust.pin(&self.path.node) != Some(self.pin) {
                return Err(WireError::Refused("its pin was changed".into()));
            }
            news.mark_unchanged();
            let asked = Instant::now();
            timeout(self.patience(), self.exchange(stream, asked))
                .await
                .map_err(|_| WireError::Timeout("answer"))??;
            if board.should_ask_manifest(&self.path.node) {
                timeout(board.silence, self.exchange_manifest(stream))
                    .await
                    .map_err(|_| WireError::Timeout("list of files"))??;
            }
            if std::mem::take(&mut is_fresh)
                && schedule.is_due(Instant::now(), board.telling.is_serving())
            {
                schedule.start(Instant::now());
                let throughput_mbps =
                    timeout(board.silence, throughput::measure(stream)).await.map_err(|_| {
                        WireError::Timeout("end of the burst that measures the path")
                    })??;
                schedule.done();
                board.measured(&self.path.node, self.path.address, throughput_mbps);
                continue;
            }
            self.wait(asked, &mut news).await;
        }
    }

    /// How long to wait for an answer, so that with the pause before the question a silent path is
    /// found out when it counts as down.
    fn patience(&self) -> Duration {
        let board = &self.path.board;
        board.silence.saturating_sub(board.report).max(board.silence / 2)
    }

    async fn exchange(
        &mut self,
        stream: &mut TlsStream<TcpStream>,
        asked: Instant,
    ) -> Result<(), WireError> {
        let Path { board, node, address, .. } = self.path;
        message::write(stream, &Message::Ask(board.telling.account())).await?;
        let account = match message::read(stream, FRAME_BYTES_MAX).await? {
            Message::Answer(account) => account,
            other => return Err(WireError::unexpected(&other)),
        };
        let round_trip = asked.elapsed();
        account.check(node)?;
        board.answered(node, *address, round_trip);
        *self.has_answered = true;
        board.heard(node, self.pin, account, asked);
        Ok(())
    }

    async fn exchange_manifest(
        &mut self,
        stream: &mut TlsStream<TcpStream>,
    ) -> Result<(), WireError> {
        message::write(stream, &Message::AskManifest {}).await?;
        let manifest = match message::read(stream, MANIFEST_BYTES_MAX).await? {
            Message::Manifest { files } => files.map(Manifest::of),
            other => return Err(WireError::unexpected(&other)),
        };
        self.path.board.heard_manifest(&self.path.node, self.pin, manifest);
        Ok(())
    }

    /// Until it is time to ask again.
    async fn wait(&mut self, asked: Instant, news: &mut watch::Receiver<()>) {
        let next = asked + self.path.board.report;
        tokio::select! {
            () = sleep_until(next.into()) => {}
            _ = self.pins.changed() => {}
            _ = news.changed() => sleep_until((asked + ASK_PAUSE).into()).await,
        }
    }
}

/// Opens the TCP connection, by the way on which the address is.
pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpSocket::from_std_stream(way::unconnected(address)?).connect(address).await
}
